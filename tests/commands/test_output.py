"""Standard output: what programs read is UTF-8; a full or closed one is one message."""

import csv
import io
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.processes import command
from worker.database import Database

NAMES = ("grüße 笑.png", "half a pair \udc80.png", "\x1b[31mred.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One whose JSON file has names that not every locale can show, and many lines."""
    with Database(tmp_path / "results.json") as database:
        for name in NAMES:
            database.append({"file_name": name, "threshold": 0.5, "faces": []})
    return tmp_path


def run(folder: Path, words: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command through a shell, in a locale that knows ASCII alone."""
    program = " ".join(command())
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    line = f"{program} {words}"
    return subprocess.run(
        ["sh", "-c", line], cwd=folder, env=ascii_only, capture_output=True, check=False
    )


def test_json_is_utf8_whatever_the_locale_and_reads_back_as_it_was(folder: Path) -> None:
    done = run(folder, "results --json")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode("utf-8").splitlines()
    assert "grüße 笑.png" in lines[0]
    assert [json.loads(line)["file_name"] for line in lines] == [*NAMES]


def test_csv_is_utf8_whatever_the_locale(folder: Path) -> None:
    done = run(folder, "results --csv")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode("utf-8"))))
    assert rows[0]["file_name"] == "grüße 笑.png"
    assert len(rows) == len(NAMES)


def test_a_table_shows_what_the_locale_can_and_no_control_character(folder: Path) -> None:
    done = run(folder, "results ")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.decode("ascii").splitlines()) == len(NAMES)
    assert b"\x1b" not in done.stdout


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@pytest.mark.parametrize(
    ("words", "output", "says"),
    [
        *(
            pytest.param(words, ">/dev/full", "No space left on device", marks=FULL)
            for words in ("results", "results --json", "results --help")
        ),
        *((words, ">&-", "Bad file descriptor") for words in ("results --verify", "--help")),
    ],
)
def test_a_full_or_closed_output_is_one_message(
    folder: Path, words: str, output: str, says: str
) -> None:
    done = run(folder, f"{words} {output}")
    assert done.returncode == 1
    assert done.stderr.decode() == f"emotion-worker: cannot write to standard output: {says}\n"


def test_a_reader_that_has_enough_is_one_message(folder: Path) -> None:
    with Database(folder / "results.json") as database:
        for _ in range(100):  # more than a pipe holds
            database.append({"file_name": "a" * 2000, "threshold": 0.5, "faces": []})
    done = run(folder, "results --json | head -n 1")
    assert json.loads(done.stdout)["file_name"] == NAMES[0]
    assert done.stderr.decode() == "emotion-worker: cannot write to standard output: Broken pipe\n"
