"""A scripted server and clients of it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.client.helpers import PATIENCE, NewClient
from tests.scripted_server import ScriptedServer
from worker.client import ServerClient
from worker.config import ServerConfig


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted


@pytest.fixture
def new_client(server: ScriptedServer) -> Iterator[NewClient]:
    """Makes clients by the keys of `[server]`; they ask ``server`` if they are not told another."""
    clients: list[ServerClient] = []

    def new(**keys: Any) -> ServerClient:
        settings: dict[str, Any] = {"url": server.url, "timeout": PATIENCE} | keys
        clients.append(ServerClient(ServerConfig(**settings), "worker-1"))
        return clients[-1]

    yield new
    for client in clients:
        client.close()


@pytest.fixture
def client(new_client: NewClient) -> ServerClient:
    return new_client(results_path="/results", max_image_bytes=10_000)
