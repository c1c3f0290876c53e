"""Where requests go, and the connections that are kept open between them."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.client.helpers import NOTHING_NEW, RECORD, TOKEN, NewClient, pulled
from tests.scripted_server import (
    HEAD,
    RawServer,
    Reply,
    ScriptedServer,
    answering,
    long_body,
    read_head,
)
from worker.errors import ServerUnreachable, UsageError


def test_a_server_that_is_not_there_is_unreachable(new_client: NewClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    for url in (f"http://127.0.0.1:{port}", "http://no-such-host.invalid", "http://a..b"):
        with pytest.raises(ServerUnreachable, match=url):
            new_client(url=url).pull_image()


@pytest.mark.parametrize("url", ["http://a b", "http://a\x00b", "http://" + "ü" * 70])
def test_a_url_that_is_none_is_named(new_client: NewClient, url: str) -> None:
    with pytest.raises(UsageError, match=r"\[server\] url = http"):
        new_client(url=url)


def test_a_host_is_reached_at_any_of_its_addresses(new_client: NewClient) -> None:
    with ScriptedServer() as server:
        server.script("/image", Reply(204))

        # On many machines localhost is ::1 first, where nobody listens.
        assert new_client(url=f"http://localhost:{server.port}").pull_image() is None


def test_nothing_in_the_environment_changes_where_requests_go_or_what_they_carry(
    server: ScriptedServer,
    new_client: NewClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server.script("/image", Reply(204))

    new_client().pull_image()
    new_client(token=TOKEN).pull_image()

    assert "Authorization" not in server.requests[0].headers
    assert server.requests[1].headers["Authorization"] == f"Bearer {TOKEN}"


def test_one_connection_serves_many_requests(new_client: NewClient) -> None:
    image = HEAD + b"Content-Length: 3\r\n\r\nabc"
    page = b"Content-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"
    with RawServer(
        answering(image, b"HTTP/1.1 404 Not Found\r\n" + page, NOTHING_NEW, image)
    ) as raw:
        client = new_client(url=raw.url)

        pulled(client)
        client.pull_threshold()
        assert client.pull_image() is None
        pulled(client)

        assert raw.connections == 1


def then_fails(bytes_before: bytes) -> Callable[[socket.socket], None]:
    """One good answer; on the second request these bytes, then the end."""

    def act(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(NOTHING_NEW)
        read_head(connection)
        connection.sendall(bytes_before)

    return act


def test_a_kept_connection_that_the_server_closes_is_no_outage(new_client: NewClient) -> None:
    with RawServer(then_fails(b""), answering(NOTHING_NEW)) as raw:
        client = new_client(url=raw.url)

        assert client.pull_image() is None
        assert client.pull_image() is None
        assert raw.connections == 2


def test_a_post_on_a_connection_that_the_server_closes_comes_whole_on_the_next(
    new_client: NewClient,
) -> None:
    bodies = []

    def take(connection: socket.socket) -> None:
        head = read_head(connection)
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        bodies.append(connection.recv(length, socket.MSG_WAITALL))
        connection.sendall(NOTHING_NEW)

    with RawServer(then_fails(b""), take) as raw:
        client = new_client(url=raw.url, results_path="/results")

        assert client.pull_image() is None
        assert client.post_result(RECORD, lease_id=None) is None
        assert [json.loads(body) for body in bodies] == [RECORD]


def test_a_torn_answer_on_a_kept_connection_is_not_asked_for_again(new_client: NewClient) -> None:
    with RawServer(then_fails(b"HTTP/1.1 2"), answering(NOTHING_NEW)) as raw:
        client = new_client(url=raw.url)

        assert client.pull_image() is None
        with pytest.raises(ServerUnreachable):
            client.pull_image()
        assert raw.connections == 1


def test_what_follows_an_answer_is_never_taken_for_the_next_answer(new_client: NewClient) -> None:
    with RawServer(long_body) as raw:
        client = new_client(url=raw.url)

        assert [pulled(client).content for _ in range(3)] == [b"abc"] * 3
