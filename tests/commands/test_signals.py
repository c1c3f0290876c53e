"""The daemon as a user starts and stops it: signals, a full disk. Real processes."""

import resource
import signal
import time
from pathlib import Path

import pytest
from tinydb import TinyDB

from tests.photographs import SAMPLES
from tests.processes import LIMIT, start, wait_for
from tests.scripted_server import RawServer, Reply, Request, ScriptedServer, hang

PHOTOGRAPH = {"Content-Type": "image/jpeg", "X-Task-Id": "t1"}


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_image_in_hand_and_exits_with_0(
    server: ScriptedServer, tmp_path: Path, stop: signal.Signals
) -> None:
    process = start(tmp_path, "--url", server.url, "--interval", "60")

    # Given a signal that comes when the image has been pulled and its threshold has not
    def threshold_after_signal(_: Request) -> Reply:
        process.send_signal(stop)
        return Reply(body=b"0.2")

    server.script("/threshold", threshold_after_signal)
    server.script("/image", Reply(body=SAMPLES["group.jpg"], headers=PHOTOGRAPH), Reply(204))
    # Then the image is finished and stored
    _, log = process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert "Traceback" not in log
    assert [d["task_id"] for d in TinyDB(tmp_path / "results.json").table("images")] == ["t1"]


def test_a_signal_while_it_waits_ends_it(server: ScriptedServer, tmp_path: Path) -> None:
    process = start(tmp_path, "--url", server.url, "--interval", "3600")
    wait_for(lambda: server.requests)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=LIMIT)
    assert process.returncode == 0


def test_a_second_signal_exits_at_once_with_128_and_its_number(tmp_path: Path) -> None:
    with RawServer(hang) as server:
        process = start(tmp_path, "--url", server.url)
        wait_for(lambda: server.connections)
        # Signals that come while the first is not yet taken count as one: send until one is second.
        while process.poll() is None:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        process.communicate(timeout=LIMIT)
    assert process.returncode == 128 + signal.SIGTERM
    assert list(TinyDB(tmp_path / "results.json").table("images")) == []


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux's prlimit")
def test_a_full_disk_loses_nothing_and_the_daemon_goes_on_when_there_is_room(
    server: ScriptedServer, tmp_path: Path
) -> None:
    file = tmp_path / "results.json"

    def stored() -> list[str]:
        return [d["task_id"] for d in TinyDB(file).table("images")] if file.exists() else []

    def offer(task: str) -> None:
        headers = {**PHOTOGRAPH, "X-Task-Id": task}
        server.script("/image", Reply(body=SAMPLES["coffee.jpg"], headers=headers), Reply(204))

    # Given a daemon that has stored one record, and then no file may grow any more
    process = start(tmp_path, "--url", server.url, "--interval", "0.1")
    offer("t1")
    assert process.stderr is not None
    while "outcome=stored" not in process.stderr.readline():
        assert process.poll() is None
    assert stored() == ["t1"]
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (file.stat().st_size + 10, hard))
    # When the next image comes
    offer("t2")
    while "polling: cannot write" not in (line := process.stderr.readline()):
        assert process.poll() is None
    # Then the log says so, the file stays readable, and the record follows once there is room
    assert "next try in" in line
    assert stored() == ["t1"]
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    wait_for(lambda: stored() == ["t1", "t2"])
    # (when the cause changes from the file to its index, the outage has two lines)
    while "works again" not in process.stderr.readline():
        assert process.poll() is None
    # And a stop while it is full is no success
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (file.stat().st_size + 10, hard))
    offer("t3")
    while "cannot write" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    assert "task t3 is not recorded" in log
    assert stored() == ["t1", "t2"]
