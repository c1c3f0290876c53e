"""What every test needs."""

import logging
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.processes import Call
from worker.cli import main

# As many tests run at a time as there are cores: more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is loaded, here or in a child

# A slow machine is no failure: what is quick enough is shown by benchmarks.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


@pytest.fixture
def unchanged_process() -> Iterator[None]:
    """What a command sets up for a process of its own is as before when the test ends."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in numbers}
    root, own = logging.getLogger(), logging.getLogger("worker")
    before = root.handlers[:], root.level, own.level
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    root.handlers[:], own.level = before[0], before[2]
    root.setLevel(before[1])


@pytest.fixture
def call(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    unchanged_process: None,
) -> Call:
    """See `tests.processes.Call`: the same as a process, and quicker."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        code = main(arguments)
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, said.out, said.err)

    return call


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The trainings first: a long test that comes last leaves the other cores idle."""
    items.sort(key=lambda item: "training" not in item.path.parts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The last lines say which promises were not proven here, and what would change that."""
    skipped = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", ())
        if isinstance(report.longrepr, tuple)
    )
    if skipped:
        terminalreporter.section("not proven on this machine")
        for reason, tests in sorted(skipped.items()):
            terminalreporter.write_line(f"{tests} tests of {reason}")
