"""A disk that is full when the daemon starts: it waits and says so, as while it runs."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon.played import PlayedAnalysts, configure, image, records, tasks
from tests.daemon.test_scheduler import ImpatientAlarm
from tests.scripted_server import Reply, ScriptedServer
from worker.config import Config
from worker.daemon.scheduler import run, run_once
from worker.errors import DiskRefuses


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        scripted.script("/threshold", Reply(body=b"0.2"))
        yield scripted


@pytest.fixture
def full() -> Iterator[Callable[[], None]]:
    """No file may grow at all, until what this gives is called."""
    resource = pytest.importorskip("resource", reason="this system has no limit on file sizes")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))

    def mend() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    yield mend
    mend()


def test_it_is_waited_for_and_said(
    server: ScriptedServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    full: Callable[[], None],
) -> None:
    server.script("/image", image("t1"), Reply(204))

    class Mending(ImpatientAlarm):
        def wait(self, seconds: float) -> None:
            super().wait(seconds)
            if len(self.waits) == 3:
                full()

    alarm = Mending(4)
    run(configure(tmp_path, server.url), alarm, PlayedAnalysts())
    assert tasks(tmp_path) == ["t1"]
    # That it works again is an INFO, heard only if another test has set the level.
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    [told] = [message for message in warned if message.startswith("starting: ")]
    assert "next try in" in told


def test_a_hangup_meanwhile_is_heard_when_there_is_room(
    server: ScriptedServer, tmp_path: Path, full: Callable[[], None]
) -> None:
    server.script("/image", image("t1"), Reply(204))
    config = configure(tmp_path, server.url)
    read: list[int] = []

    class Hanging(ImpatientAlarm):
        def wait(self, seconds: float) -> None:
            super().wait(seconds)
            if len(self.waits) == 1:
                self.reload()
            elif len(self.waits) == 3:
                full()

    def read_again() -> Config:
        read.append(len(alarm.waits))
        return config

    alarm = Hanging(4)
    run(config, alarm, PlayedAnalysts(), read_again)
    assert read == [3]
    assert tasks(tmp_path) == ["t1"]


def test_it_is_waited_for_no_longer_than_until_a_stop(
    tmp_path: Path, full: Callable[[], None]
) -> None:
    run(configure(tmp_path, "http://127.0.0.1:1"), ImpatientAlarm(3), PlayedAnalysts())
    full()  # pytest itself may write to a file
    assert not records(tmp_path)


def test_once_ends_with_what_is_wrong(tmp_path: Path, full: Callable[[], None]) -> None:
    config = configure(tmp_path, "http://127.0.0.1:1")
    with pytest.raises(DiskRefuses, match="cannot write"):
        run_once(config, ImpatientAlarm(3), PlayedAnalysts())
    full()  # pytest itself may write to a file
