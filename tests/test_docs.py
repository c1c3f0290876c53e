"""What the documentation shows works as it stands there."""

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

import worker
from tests.photographs import SAMPLES, encode, picture
from tests.processes import LIMIT, Call, run_worker, wait_for
from worker.cli import COMMANDS
from worker.config import PROJECT
from worker.database import Database, read_records
from worker.record import face_entry

POST = ("--set", "server.results_path=/results")


def serves(url: str) -> bool:
    try:
        return requests.get(f"{url}/threshold", timeout=LIMIT).ok
    except requests.ConnectionError:
        return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The server of docs/http.md, in a process of its own."""
    [code] = re.findall(r"```python\n(.*?)```", (PROJECT / "docs/http.md").read_text(), re.DOTALL)
    assert sum(bool(line) for line in code.splitlines()) <= 25
    (tmp_path / "server.py").write_text(code)
    (tmp_path / "pictures").mkdir()
    for i, name in enumerate(("astronaut.jpg", "coffee.jpg", "astronaut.jpg")):
        (tmp_path / "pictures" / f"{i}.png").write_bytes(encode(".png", picture(name)[i:]))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "server.py", "pictures", str(port)]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    wait_for(lambda: serves(url))
    yield url
    process.terminate()
    process.wait(timeout=LIMIT)


def test_the_server_of_the_documentation_works_with_the_worker(server: str, tmp_path: Path) -> None:
    # A second run posts what the first still owed, should it owe anything.
    for _ in range(2):
        done = run_worker(tmp_path, "once", "--url", server, *POST)
        assert done.returncode == 0, done.stderr
    # Several polls at once: the order is not promised.
    records = {record["file_name"]: record for record in read_records(tmp_path / "results.json")}
    assert {*records} == {"0.png", "1.png", "2.png"}
    assert len({record["task_id"] for record in records.values()}) == 3
    assert {record["threshold"] for record in records.values()} == {0.35}
    assert len(records["0.png"]["faces"]) == 1
    assert requests.get(f"{server}/image", timeout=LIMIT).status_code == 204
    # Another picture under an old name is another task.
    (tmp_path / "pictures" / "1.png").write_bytes(encode(".png", picture("astronaut.jpg")))
    assert run_worker(tmp_path, "once", "--url", server, *POST).returncode == 0
    assert [r["file_name"] for r in read_records(tmp_path / "results.json")].count("1.png") == 2


JSON_PAGE = (PROJECT / "docs/json-file.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", JSON_PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One with the record that docs/json-file.md shows, and one without a face."""
    [shown] = blocks("json")
    with Database(tmp_path / "results.json") as database:
        database.append(json.loads(shown))
        database.append(json.loads(shown) | {"file_name": "b.png", "faces": [], "task_id": "b"})
    return tmp_path


def test_the_snippets_about_the_json_file_run_as_they_stand(folder: Path) -> None:
    says = {
        "TinyDB": "TinyDB: ['angry.jpeg']\n",
        "json": "json: angry.jpeg 1 0.94\n",
        "pandas": "pandas: 0.94\n",
    }
    for code in blocks("python"):
        [name] = re.findall(r'print\("(\w+):"', code)
        expected = says.pop(name)
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False
        )
        if "No module named 'pandas'" in done.stderr:
            continue
        assert done.stdout == expected, done.stderr
    assert not says


def test_the_commands_about_the_json_file_do_what_the_page_says(call: Call, folder: Path) -> None:
    commands, jq = blocks("sh")
    shown = {}
    for line in commands.splitlines():
        words = re.sub(r"^(python run_worker.py|emotion-worker) ", "", line).split()
        if "--follow" not in words:  # it would not end
            done = call(*words)
            assert done.returncode == 0, done.stderr
            shown[words[-1]] = done.stdout
    assert shown["--csv"].count("\n") == 1  # nobody is happy: the heading
    records = [json.loads(line) for line in shown["--json"].splitlines()]
    assert [record["file_name"] for record in records] == ["angry.jpeg", "b.png"]
    plain = json.loads(shown["--seed-format"])["images"]
    assert list(plain[0]) == ["file_name", "threshold", "faces"]
    assert shown["--counts"].startswith("images\t2\nno face\t1\n")
    assert "documents: 2 in 1 file" in shown["--verify"]
    if shutil.which("jq"):
        done = subprocess.run(
            ["sh", "-c", jq], cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=True
        )
        assert done.stdout == "angry.jpeg\n"


def test_the_pages_link_to_pages_that_are_there() -> None:
    for page in (PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")):
        text = page.read_text()
        links = re.findall(r"\]\(([^)#]+)\)", text)
        assert all((page.parent / link).exists() for link in links if "://" not in link), page
        named = re.findall(r"`(docs/[\w.-]+)`", text)
        assert all((PROJECT / name).exists() for name in named), page


def test_the_readme_names_each_command_and_each_page() -> None:
    page = (PROJECT / "README.md").read_text()
    named = re.findall(r"^    emotion-worker ([a-z-]+)", page, re.MULTILINE)
    assert {*COMMANDS} - {"run"} <= {*named}
    linked = re.findall(r"^\| \[[^]]+\]\(([^)]+)\)", page, re.MULTILINE)
    pages = {path.relative_to(PROJECT).as_posix() for path in (PROJECT / "docs").glob("*.md")}
    assert {*linked} == pages | {"CONTRIBUTING.md"}


def shown_commands() -> list[str]:
    """What stands behind our program's name in each line that a page shows, a continued one as a
    whole, as far as it has flags."""
    shown: set[str] = set()
    for page in (PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")):
        text = re.sub(r"\\\n *", "", page.read_text())
        lines = re.findall(r"^(?:    )?emotion-worker (\S.*)", text, re.MULTILINE)
        shown |= {re.split(r" #|   |\|", line)[0] for line in lines}
    return sorted(line for line in shown if "--" in line)


@pytest.mark.parametrize("line", shown_commands())
def test_a_command_that_a_page_shows_takes_the_flags_that_it_shows(line: str, call: Call) -> None:
    words = ["run"] if line.startswith("--") else line.split()[: 1 + line.startswith("evaluate")]
    known = call(*words, "--help")
    assert {*re.findall(r"--[a-z][\w-]*", line)} <= {*re.findall(r"--[\w-]+", known.stdout)}


def test_the_readme_shows_what_the_demo_finds_and_a_server_that_is_an_example() -> None:
    page = (PROJECT / "README.md").read_text()
    [shown] = re.findall(r'^    (\{"file_name": "astronaut.jpg".*?\}\]), …\}$', page, re.M | re.S)
    stated = json.loads(shown + "}")
    [face] = worker.Analyzer().faces(SAMPLES["astronaut.jpg"])
    found = face_entry(1, face, stated["threshold"])
    [said] = stated["faces"]
    corners = zip(said.pop("bbox"), found.pop("bbox"), strict=True)
    assert all(abs(int(one) - int(other)) <= 2 for one, other in corners)
    assert found == pytest.approx(said, abs=0.02)
    [server] = re.findall(r"```python\n(.*?)```", page, re.S)
    assert (PROJECT / "examples" / "server.py").read_text().endswith(server)
