"""One deadline holds for a whole request, whatever the server does meanwhile."""

import contextlib
import gzip
import socket
import time
from collections.abc import Callable

import pytest

from tests.client.helpers import DEADLINE, PATIENCE, NewClient
from tests.scripted_server import (
    HEAD,
    RawServer,
    Reply,
    ScriptedServer,
    drip_body,
    drip_headers,
    dripping,
    hang,
)
from worker.errors import RetryLater, ServerUnreachable


# Each of these would go on for ever: without the deadline the test would not end.
@pytest.mark.parametrize(
    "act",
    [
        hang,
        drip_headers,
        dripping(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
        dripping(b"HTTP/1.1 103 Hints\r\n\r\n", b"HTTP/1.1 103 Hints\r\n\r\n"),
        drip_body,
        dripping(HEAD + b"\r\n", b"a"),
        dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
        dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
        dripping(HEAD + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"")),
    ],
)
def test_an_endless_answer_is_given_up_at_the_deadline(
    new_client: NewClient, act: Callable[[socket.socket], None]
) -> None:
    with RawServer(act) as raw:
        client = new_client(url=raw.url, timeout=DEADLINE)
        with pytest.raises(RetryLater, match="too long"):
            client.pull_image()


def read_slowly(connection: socket.socket) -> None:
    while connection.recv(100_000):
        time.sleep(0.05)


@pytest.mark.parametrize("act", [read_slowly, lambda _: time.sleep(PATIENCE)])
def test_a_server_that_hardly_reads_cannot_hold_a_post_beyond_the_deadline(
    new_client: NewClient, act: Callable[[socket.socket], None]
) -> None:
    with RawServer(act) as raw:
        client = new_client(url=raw.url, results_path="/results", timeout=DEADLINE)
        with pytest.raises(ServerUnreachable, match="too long"):
            client.post_result({"task_id": "a", "padding": "a" * 20_000_000}, lease_id=None)


def test_one_dead_address_of_a_host_leaves_time_for_the_others(
    server: ScriptedServer, new_client: NewClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script("/image", Reply(204))
    kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    # Ten of them, so that the dead one gets a tenth of the time.
    addresses = [(*kind, (host, server.port)) for host in ("127.0.0.2", *["127.0.0.1"] * 9)]
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *_, **__: [
            found for found in addresses if host in ("ten.example", found[4][0])
        ],
    )
    with contextlib.ExitStack() as stack:
        # When the queue of an address is full, a connection is neither taken nor refused.
        full = stack.enter_context(socket.create_server(("127.0.0.2", server.port), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())

        assert new_client(url=f"http://ten.example:{server.port}", timeout=30).pull_image() is None
