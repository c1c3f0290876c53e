"""What systemd hears from the daemon, over a real socket."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.daemon.played import HANG, image
from tests.daemon.test_alarm import Calls
from tests.daemon.test_drain import loop
from tests.processes import command
from tests.scripted_server import Reply, ScriptedServer
from worker.daemon.alarm import LONGEST_SLEEP, Alarm, notify


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(HANG)
        yield listener


def test_it_says_ready_then_feeds_the_watchdog_while_it_waits_then_says_that_it_stops(
    tmp_path: Path, manager: socket.socket
) -> None:
    with ScriptedServer() as server:
        server.script("/image", Reply(204))
        variables = {"NOTIFY_SOCKET": manager.getsockname()}
        process = subprocess.Popen(
            command("run", "--url", server.url, "--interval", "3600"),
            cwd=tmp_path,
            env=os.environ | variables,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert manager.recv(100) == b"READY=1"
            # One from the poll, one from the wait.
            assert [manager.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2
            assert len(server.requests) == 1
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    heard = b"WATCHDOG=1"
    while heard == b"WATCHDOG=1":
        heard = manager.recv(100)
    assert heard == b"STOPPING=1"


def heard(manager: socket.socket) -> int:
    """How many words are there already."""
    words = 0
    manager.setblocking(False)
    with suppress(BlockingIOError):
        while manager.recv(100):
            words += 1
    return words


def test_every_wait_feeds_the_watchdog_all_the_time(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    calls = Calls()
    Alarm(lambda: calls.now, calls).wait(8 * LONGEST_SLEEP)
    assert heard(manager) == 8


def test_a_poll_that_hangs_feeds_nothing_and_each_that_ends_does(
    tmp_path: Path, manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    asked, go_on = threading.Event(), threading.Event()

    def stall(_: object) -> Reply:
        asked.set()
        assert go_on.wait(HANG)
        return image("t1", X_Threshold="0.3")

    with ScriptedServer() as server:
        server.script("/image", stall, Reply(204))
        with (
            loop(tmp_path, server.url, "worker.prefetch=0") as made,
            ThreadPoolExecutor(1) as main,
        ):
            step = main.submit(made.step)
            assert asked.wait(HANG)
            assert heard(manager) == 0
            go_on.set()
            step.result(HANG)
            assert heard(manager) == 2


def test_an_abstract_socket_is_reached_and_a_missing_one_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        name = f"emotion-worker-test-{os.getpid()}"
        listener.bind("\0" + name)
        listener.settimeout(HANG)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        notify("WATCHDOG=1")
        assert listener.recv(100) == b"WATCHDOG=1"
    for path in (str(tmp_path / "gone"), ""):
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        notify("READY=1")
