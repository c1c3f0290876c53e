"""A real Redis server of the test's own, on a free port of loopback."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as NoConnection


def need_redis() -> None:
    """Skip the test where Redis is not installed, or fail it: see WORKER_TESTS_NEED_REDIS."""
    if shutil.which("redis-server") is None:
        reason = "redis-server is not installed (Debian: apt-get install redis-server)"
        if os.environ.get("WORKER_TESTS_NEED_REDIS"):
            pytest.fail(reason)
        pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class RedisServer:
    """Can be started and stopped as often as is needed; its data, in ``folder``, outlives it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        command = ["redis-server", "--port", str(self._port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self._folder), "--save", "", "--appendonly", "yes"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for _ in range(200):
            try:
                with Redis.from_url(self.url) as client:
                    client.ping()
                    return
            except NoConnection:
                time.sleep(0.05)
        raise AssertionError("redis-server does not answer")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """One that runs, and has ended when the ``with`` has."""
    need_redis()
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
