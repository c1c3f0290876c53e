"""`web`: other pages are refused, and nobody holds up the others."""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from werkzeug.test import Client

from worker.errors import UsageError
from worker.web import MAX_BODY, WebServer, guard

POLICY = "default-src 'none'"


def page(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("cache-control", "public")])
    return [b"secret"]


def status(headers: dict[str, str], path: str = "/", **settings: Any) -> int:
    client = Client(guard(page, POLICY, **settings))
    return client.get(path, headers={"Host": "127.0.0.1:5000", **headers}).status_code


@pytest.mark.parametrize(
    "host", ["127.0.0.1:5000", "localhost", "LOCALHOST:80", "127.0.0.2:1", "[::1]:80", "10.1.2.3"]
)
def test_it_answers_under_addresses_and_its_own_name(host: str) -> None:
    assert status({"Host": host}) == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:5000", "127.0.0.1.evil.example", "localhost.evil.example"),
        *("127.0.0.1@evil.example", "evil", "", "[::1", "localhost."),
    ],
)
def test_a_name_that_anybody_can_point_here_is_refused(host: str) -> None:
    assert status({"Host": host}) == 403


def test_the_name_that_the_user_wrote_is_its_own() -> None:
    assert status({"Host": "camera.local:8080"}, host="Camera.local") == 200
    assert status({"Host": "camera.local:8080"}, host="0.0.0.0") == 403


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:5000"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "http://127.0.0.1:5001"}, 403),
        ({"Origin": "https://127.0.0.1:5000"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_other_pages_are_refused(headers: dict[str, str], expected: int) -> None:
    assert status(headers) == expected


def test_paths_for_programs_answer_under_any_name() -> None:
    evil = {"Host": "evil.example"}
    assert status(evil, "/metrics", exempt=("/metrics",)) == 200
    assert status(evil, "/metrics/", exempt=("/metrics",)) == 403


def test_an_answer_can_be_embedded_and_kept_nowhere() -> None:
    headers = Client(guard(page, POLICY)).get("/", headers={"Host": "localhost"}).headers
    assert headers["Content-Security-Policy"] == f"{POLICY}; frame-ancestors 'none'"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers.get_all("Cache-Control") == ["no-store"]


def test_400_half_requests_hold_no_400_threads_and_nobody_up() -> None:
    with WebServer(page, threads=3) as server, ExitStack() as stack:
        address = urlsplit(server.url)
        before = threading.active_count()
        for _ in range(400):
            half = socket.create_connection((address.hostname, address.port), timeout=30)
            stack.enter_context(half).sendall(b"GET / HTTP/1.1\r\nHost: 127")
        assert requests.get(server.url, timeout=30).text == "secret"
        assert threading.active_count() == before


def test_an_endless_answer_ends_with_the_server_also_when_nobody_reads_it() -> None:
    ended = threading.Event()

    def endless(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            while True:
                yield bytes(100_000)
        finally:
            ended.set()

    with WebServer(endless) as server:
        reader = requests.get(server.url, stream=True, timeout=30)
        assert reader.raw.read(1) == b"\0"
    assert ended.wait(30)
    reader.close()


def test_a_body_that_is_too_large_is_refused_before_it_is_read() -> None:
    with WebServer(page) as server:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as sender:
            head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n"
            sender.sendall(head.encode())
            assert b" 413 " in sender.recv(100)


@pytest.mark.parametrize("port", [-1, 70_000])
def test_a_port_that_is_none_is_named(port: int) -> None:
    with pytest.raises(UsageError, match=str(port)):
        WebServer(page, port=port)
