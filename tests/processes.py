"""The commands, as processes of their own and within this one."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from worker.config import PROJECT

LIMIT = 250  # seconds, which only bound a hang


def command(*arguments: str) -> list[str]:
    """The words that start the program of this checkout."""
    return [sys.executable, str(PROJECT / "run_worker.py"), *arguments]


def run_worker(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one command in a process of its own until it ends."""
    done = subprocess.run(
        command(*arguments), cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert "Traceback" not in done.stderr
    return done


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start one that goes on until it is stopped."""
    return subprocess.Popen(
        command(*arguments), cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def wait_for(condition: Callable[[], object]) -> None:
    """Return as soon as this holds."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children(process: int) -> list[int]:
    """The ids of the processes that this one has started and that have not ended; Linux only."""
    # By each process's parent: what a thread started is not found beside it once it has ended.
    every = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal()]
    return [each for each in every if not has_ended(each) and _status(each)[1:2] == [str(process)]]


def has_ended(process: int) -> bool:
    """Whether it is gone, or only its exit code is left of it."""
    return _status(process)[:1] in ([], ["Z"])


def _status(process: int) -> list[str]:
    """State, parent and so on as /proc has them; empty if there is no such process any more."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


class Call(Protocol):
    """Runs one command within this process, in the folder ``tmp_path``."""

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]: ...
