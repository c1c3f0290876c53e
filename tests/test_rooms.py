"""The house holds: who may use whom, doors, sizes, and what a quick command does not load."""

import ast
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lines_of_code import lines_of_room
from tests.processes import LIMIT
from worker.config import PROJECT
from worker.database import Database

PACKAGE = PROJECT / "worker"
FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = {folder.parent.name for folder in PACKAGE.glob("*/__init__.py")}
MOST_LINES = 7_400  # of code, in all: a bound that only ever goes down


def test_each_room_uses_only_what_the_table_of_the_design_allows() -> None:
    """The table is the contracts under [tool.importlinter] in pyproject.toml."""
    # In a process of its own: it would silence the loggers of this one.
    linting = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    words = ["--config", str(PROJECT / "pyproject.toml"), "--no-cache"]
    done = subprocess.run(
        [sys.executable, "-c", linting, *words],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def name_of(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


def imports_of(file: Path) -> Iterator[tuple[str, set[str], bool]]:
    """Each import of a module of ours: its name, what is taken from it, whether in a function."""
    tree = ast.parse(file.read_text())
    inside = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("worker."):
            assert node.module
            yield node.module, {alias.name for alias in node.names}, node in inside


def submodules_of(room: str) -> set[str]:
    """The submodules that the docstring of a room's door lists."""
    said = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text())) or ""
    return set(re.findall(rf"`(worker\.{room}\.[\w.]+)`", said))


@pytest.mark.parametrize("room", sorted(ROOMS - {"commands"}))
def test_nobody_reaches_past_a_door(room: str) -> None:
    heavy = submodules_of(room)
    for file in FILES:
        if room in file.relative_to(PACKAGE).parts:
            continue
        for module, names, _ in imports_of(file):
            if module == f"worker.{room}":
                offered = {f"{module}.{name}" for name in names}
                door = __import__(module, fromlist=["__all__"])
                assert names <= {*door.__all__} or offered <= heavy, name_of(file)
            elif module.startswith(f"worker.{room}."):
                assert module in heavy, f"{name_of(file)} reaches past the door to {module}"


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_door_says_what_its_room_is_for(room: str) -> None:
    assert ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text()))


def test_few_files_lie_beside_the_rooms() -> None:
    assert len([*PACKAGE.glob("*.py")]) <= 13


def test_a_module_is_read_in_one_sitting() -> None:
    long = {name_of(file) for file in FILES if len(file.read_text().splitlines()) > 300}
    assert not long


def test_a_function_fits_on_a_screen() -> None:
    long = {
        f"{name_of(file)}: {node.name}"
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno + 1 > 60
    }
    assert not long


def test_the_package_stays_small() -> None:
    assert sum(lines_of_room(PACKAGE).values()) <= MOST_LINES


REPORTING = """
import json, sys
from worker.cli import main
try:
    main(sys.argv[1:])
finally:
    loaded = {name.partition(".")[0] for name in sys.modules}
    json.dump(sorted(loaded), sys.stderr)
"""


def loaded_by(folder: Path, *arguments: str) -> set[str]:
    """The packages that a command loads; one that says where it serves is then stopped."""
    process = subprocess.Popen(
        [sys.executable, "-c", REPORTING, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if "http://" in process.stdout.readline():
        process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=LIMIT)
    loaded: list[str] = json.loads(said.splitlines()[-1])
    return {*loaded}


HEAVY = {"torch", "onnx", "matplotlib", "scipy", "skimage", "flask", "jinja2", "onnxruntime"}
IMAGES = {"numpy", "cv2"}
SERVER = {"requests", "urllib3", "apscheduler", "prometheus_client"}


@pytest.mark.parametrize(
    ("words", "not_loaded"),
    [
        ("--help", HEAVY | IMAGES | SERVER | {"rich", "tinydb"}),
        ("--version", HEAVY | IMAGES | SERVER | {"rich", "tinydb"}),
        ("results --help", HEAVY | IMAGES | SERVER | {"rich", "tinydb"}),
        ("results", HEAVY | IMAGES | SERVER | {"rich"}),
        ("results --csv", HEAVY | IMAGES | SERVER | {"rich"}),
        ("label faces --port 0", {"torch", "onnx", "onnxruntime", "matplotlib", "cv2"}),
        ("check", {"torch", "onnx", "flask", "matplotlib"}),
        ("evaluate emotions --data nowhere", {"torch", "onnx", "flask"}),
    ],
)
def test_a_command_loads_no_more_than_it_needs(
    tmp_path: Path, words: str, not_loaded: set[str]
) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "face.png").write_bytes(b"")
    with Database(tmp_path / "results.json") as database:
        database.append({"file_name": "a.png", "threshold": 0.5, "faces": []})
    loaded = loaded_by(tmp_path, *words.split())
    assert "worker" in loaded
    assert not loaded & not_loaded
