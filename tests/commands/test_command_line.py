"""What all commands have in common: help, one clear message for a mistake, exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import LIMIT, Call, command
from worker import __version__
from worker.cli import COMMANDS
from worker.config import PROJECT
from worker.errors import (
    DatabaseUnusable,
    DiskRefuses,
    ImageLost,
    RetryLater,
    ServerRefuses,
    ServerUnreachable,
    UsageError,
    WorkerError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (DatabaseUnusable("x"), 5),
        (ServerUnreachable("x"), 3),
        (RetryLater("x"), 3),
        (ServerRefuses("x", status=401), 4),
        (ServerRefuses("x", status=403), 4),
        (ServerRefuses("x", status=404), 2),
        (DiskRefuses("x"), 1),
        (ImageLost("x", "y"), 1),
    ],
)
def test_each_error_has_its_exit_code(error: WorkerError, code: int) -> None:
    assert error.exit_code == code


@pytest.mark.parametrize("name", [*COMMANDS, "evaluate emotions", "evaluate faces"])
def test_each_command_has_help_with_one_line_of_usage_and_an_example(call: Call, name: str) -> None:
    done = call(*name.split(), "--help")
    assert done.returncode == 0
    usage, blank, *rest = done.stdout.splitlines()
    assert usage.startswith(f"usage: emotion-worker {name} ")
    assert not blank
    assert [line for line in rest if line.startswith(f"example: emotion-worker {name}")]
    asks_a_server = name in ("run", "once", "check")
    assert ("--url" in done.stdout, "--interval" in done.stdout) == (asks_a_server, asks_a_server)


def test_help_lists_every_command_and_what_it_does(call: Call) -> None:
    lines = call("--help").stdout.splitlines()
    listed = dict(line.split(maxsplit=1) for line in lines if line.startswith("  "))
    assert [name for name in listed if name in COMMANDS] == [*COMMANDS]


def test_the_program_has_one_name_and_version_however_it_is_started(tmp_path: Path) -> None:
    here = {**os.environ, "PYTHONPATH": str(PROJECT)}
    for words in (command(), [sys.executable, "-m", "worker"]):
        done = subprocess.run(
            [*words, "--version"], cwd=tmp_path, env=here, capture_output=True, text=True
        )
        assert done.stdout == f"emotion-worker {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--set", "server.urll=x"), 2, "unknown key urll in [server]; did you mean url?"),
        (("--url", "localhost"), 2, "[server] url = localhost: must look like http://"),
        (("--interval", "0"), 2, "must be a number from 0.05 to 86400 seconds"),
        (("--config", "none.ini"), 2, "cannot read the configuration file none.ini"),
        (("--set", "classification.weights=none"), 2, "[classification] weights, or the flag"),
        (("--set", "database.path=none/results.json"), 5, "none/results.json"),
        # Not even root may write there.
        (("--set", "database.path=/proc/results.json"), 5, "/proc/results.json"),
        (("analyze", "nowhere"), 2, "nowhere: there is no such file or folder"),
        (
            ("analyze", "x", "--threshold", "7"),
            2,
            "did you mean 0.07?",
        ),
        (("analyze", "x", "--threshold", "20"), 2, "; did you mean 0.2?"),
        (
            ("analyze", "x", "--threshold", "high"),
            2,
            "--threshold: must be a number from 0 to 1",
        ),
        (("analyze", "x", "--every", "0s"), 2, "must be a number from 0.001 to 86400 seconds"),
        (("results", "--since", "yesterday"), 2, "'yesterday' is no time"),
        (("results", "--last", "0"), 2, "--last: must be a whole number from 1 "),
        (("results", "--emotion", "happy"), 2, "--emotion: must be one of neutral, happiness"),
        (("results", "--emotion", "happy"), 2, "; did you mean happiness?"),
        (("label", "x", "--port", "99999"), 2, "must be a whole number from 0 to 65535"),
        (("live", "--serve", "here:http"), 2, "--serve: must look like 127.0.0.1:9464"),
        (("train", "--output", "a.onnx"), 2, "train needs --data DIR"),
        (("train", "--output", "a.onnx", "--data", "nowhere"), 2, "there is no folder nowhere"),
        (("train", "--output", "a", "--data", "x", "--init", "b"), 2, "--init: there is no file b"),
        (("crop",), 2, "name images or folders, or set [database] keep_images"),
        (("evaluate", "emotions", "--data", "nowhere"), 2, "there is no folder nowhere"),
        (("fly",), 2, "there is no command fly (see emotion-worker --help)"),
        (("anlyze", "x"), 2, "there is no command anlyze; did you mean analyze?"),
        (("once", "--intervall", "5"), 2, "--intervall 5; did you mean --interval?"),
        (("demo-server", "nowhere"), 2, "nowhere"),
    ],
)
def test_a_users_mistake_gets_one_clear_line(
    call: Call, arguments: tuple[str, ...], code: int, says: str
) -> None:
    done = call(*arguments)
    assert done.returncode == code
    assert says in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("emotion-worker: ")


def test_a_training_does_not_write_over_what_it_begins_with(call: Call, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("weights")
    words = ("--network", "emotion_net", "--data", "x", "--init", "a", "--output", "./a")
    done = call("train", *words)
    assert (done.returncode, (tmp_path / "a").read_text()) == (2, "weights")
    assert "is what --init begins with" in done.stderr


def test_a_missing_package_is_named_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "flask.py").write_text("raise ModuleNotFoundError(\"No module\", name='flask')")
    done = subprocess.run(
        command("demo-server", "--port", "0"),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 2
    assert "the package flask is missing" in done.stderr
    assert "Traceback" not in done.stderr
