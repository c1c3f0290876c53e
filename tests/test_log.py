"""The log: one line an event, whatever a server put into it."""

import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest

from worker.config import LogConfig
from worker.log import configure_logging


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("worker")
    before = root.handlers[:], root.level, own.level
    yield
    root.handlers[:], own.level = before[0], before[2]
    root.setLevel(before[1])


def test_a_text_line_has_time_level_and_message_and_stays_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(LogConfig())
    logging.getLogger("worker.daemon.poller").info("file=%s", "a\nb\x1b[31m")
    logging.getLogger("worker.daemon.poller").debug("unseen")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.split()[1:] == [
        "INFO",
        "file=a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[31m",
    ]
    assert line[4] == "-" and line.split()[0].endswith("Z")


def test_a_json_line_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogConfig(level="DEBUG", format="json"))
    try:
        raise ValueError("a fault")
    except ValueError:
        logging.getLogger("worker.daemon.poller").exception("file=%s", 'a"b\n')
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry["message"] == 'file=a"b\n'
    assert (entry["level"], entry["logger"]) == ("ERROR", "worker.daemon.poller")
    assert "a fault" in entry["exception"]


HOSTILE = "a\x1b[31m\x9b2J\x7f\u202e\u2028\r\n2026-01-01 INFO    forged"


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_control_character_reaches_the_log_and_no_line_is_forged(
    capsys: pytest.CaptureFixture[str], style: Literal["text", "json"]
) -> None:
    configure_logging(LogConfig(format=style))
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logging.getLogger("worker.daemon.poller").exception("file=%s", HOSTILE)
    logged = capsys.readouterr().err
    assert "forged" in logged
    lines = logged.removesuffix("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("2026-01-01") for line in lines)
