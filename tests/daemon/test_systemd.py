"""What systemd hears from the daemon, over a real socket."""

import math
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import command
from tests.scripted_server import Reply, ScriptedServer
from worker.daemon.systemd import alive, notify, watchdog_seconds


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(40)
        yield listener


@pytest.mark.parametrize(
    ("image", "path"),
    [
        (Reply(204), "waiting for the next poll"),
        (Reply(503, headers={"Retry-After": "3600"}), "backing off"),
    ],
)
def test_it_says_ready_then_feeds_the_watchdog_while_it_waits_then_says_that_it_stops(
    tmp_path: Path, manager: socket.socket, image: Reply, path: str
) -> None:
    with ScriptedServer() as server:
        server.script("/image", image)
        flags = ["--url", server.url, "--interval", "3600"]
        variables = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "200000"}
        process = subprocess.Popen(
            command("run", *flags, "--set", "worker.max_backoff=3600"),
            cwd=tmp_path,
            env=os.environ | variables,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert manager.recv(100) == b"READY=1"
            assert manager.recv(100) == b"WATCHDOG=1"
            started = time.monotonic()
            assert [manager.recv(100) for _ in range(5)] == [b"WATCHDOG=1"] * 5
            assert 0.35 < time.monotonic() - started < 10
            assert len(server.requests) == 1, path
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    heard = []
    manager.settimeout(0.2)
    try:
        while True:
            heard.append(manager.recv(100))
    except TimeoutError:
        assert heard[-1] == b"STOPPING=1"


def test_a_loop_that_hangs_feeds_nothing(tmp_path: Path, manager: socket.socket) -> None:
    with ScriptedServer() as server:
        server.script("/image", Reply(204, delay=30))
        variables = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "200000"}
        process = subprocess.Popen(
            command("run", "--url", server.url),
            cwd=tmp_path,
            env=os.environ | variables,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert manager.recv(100) == b"READY=1"
            manager.settimeout(1)  # ten times as long as it should take
            with pytest.raises(TimeoutError):
                manager.recv(100)
        finally:
            process.kill()
            process.wait()


def test_an_abstract_socket_is_reached_and_a_missing_one_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        name = f"emotion-worker-test-{os.getpid()}"
        listener.bind("\0" + name)
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        alive()
        assert listener.recv(100) == b"WATCHDOG=1"
    for path in (str(tmp_path / "gone"), ""):
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        notify("READY=1")


def test_the_watchdog_counts_only_where_it_is_meant_for_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert watchdog_seconds() == math.inf
    monkeypatch.setenv("WATCHDOG_USEC", "1500000")
    assert watchdog_seconds() == 1.5
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert watchdog_seconds() == 1.5
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_seconds() == math.inf
