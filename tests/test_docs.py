"""What the documentation shows works as it stands there."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.photographs import encode, picture
from worker.config import PROJECT
from worker.database_reader import read_records

POST = ("--set", "server.results_path=/results")


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
    for _ in range(100):
        try:
            requests.get(f"{url}/threshold", timeout=5)
            break
        except requests.ConnectionError:
            time.sleep(0.1)
    yield url
    process.terminate()
    process.wait(timeout=10)


def test_the_server_of_the_documentation_works_with_the_worker(server: str, tmp_path: Path) -> None:
    # A second run posts what the first still owed, should it owe anything.
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(PROJECT / "run_worker.py"), "once", "--url", server, *POST],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    records = list(read_records(tmp_path / "results.json"))
    assert [record["task_id"] for record in records] == ["0.png", "1.png", "2.png"]
    assert [record["file_name"] for record in records] == ["0.png", "1.png", "2.png"]
    assert {record["threshold"] for record in records} == {0.35}
    assert len(records[0]["faces"]) == 1
    assert requests.get(f"{server}/image", timeout=5).status_code == 204
