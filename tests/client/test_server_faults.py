"""The server's fault, as its statuses and types say it: what is tried again, what names a key."""

import time
from email.utils import formatdate

import pytest

from tests.client.helpers import TOKEN, NewClient
from tests.scripted_server import RawServer, Reply, ScriptedServer, dripping
from worker.client import ServerClient
from worker.errors import RetryLater, ServerBusy, ServerRefuses


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 201, 206])
def test_a_passing_fault_is_tried_again_later(
    server: ScriptedServer, client: ServerClient, status: int
) -> None:
    server.script("/image", Reply(status))

    with pytest.raises(RetryLater, match=str(status)) as raised:
        client.pull_image()
    assert type(raised.value) is (ServerBusy if status in (429, 503) else RetryLater)
    assert raised.value.wait is None


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "wait"),
    [
        *(("7", 7), ("-7", None), ("soon", None), ("1.5", None), ("9" * 5_000, None)),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),  # which gets the usual back-off
    ],
)
def test_the_wait_that_the_server_asks_for_is_passed_on(
    server: ScriptedServer, client: ServerClient, status: int, value: str, wait: float | None
) -> None:
    server.script("/image", Reply(status, headers={"Retry-After": value}))

    with pytest.raises(RetryLater) as raised:
        client.pull_image()
    assert raised.value.wait == wait


def test_a_wait_may_be_a_date(server: ScriptedServer, client: ServerClient) -> None:
    date = formatdate(time.time() + 3_000, usegmt=True)
    server.script("/image", Reply(503, headers={"Retry-After": date}))

    with pytest.raises(ServerBusy) as raised:
        client.pull_image()
    assert raised.value.wait == pytest.approx(3_000, abs=600)


@pytest.mark.parametrize(
    ("status", "key"),
    [
        (301, "url"),
        (302, "url"),
        (307, "url"),
        (308, "url"),
        (401, "token_file"),
        (403, "token_file"),
        (404, "image_path"),
        (405, "image_path"),
        (400, "image_path"),
    ],
)
def test_a_refusal_names_the_key_to_look_at(
    server: ScriptedServer, client: ServerClient, status: int, key: str
) -> None:
    server.script("/image", Reply(status))

    with pytest.raises(ServerRefuses, match=rf"{status}.*\[server\] {key}$") as raised:
        client.pull_image()
    assert raised.value.status == status


def test_a_redirect_is_not_followed_and_its_body_not_read(new_client: NewClient) -> None:
    with ScriptedServer() as other:
        head = f"HTTP/1.1 302 Found\r\nLocation: {other.url}/\r\nContent-Type: text/html\r\n\r\n"
        with RawServer(dripping(head.encode(), b"a" * 100_000)) as raw:
            client = new_client(url=raw.url, token=TOKEN)
            with pytest.raises(ServerRefuses, match=other.url):
                client.pull_image()
        assert not other.requests


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "", "multipart/mixed"])
def test_a_page_with_status_200_is_no_image(
    server: ScriptedServer, client: ServerClient, kind: str
) -> None:
    server.script("/image", Reply(200, b"<html>", {"Content-Type": kind, "X-Task-Id": "task-1"}))

    with pytest.raises(RetryLater, match=r"\[server\] url"):
        client.pull_image()


def test_the_servers_words_are_short_and_hold_no_control_characters(
    server: ScriptedServer, client: ServerClient
) -> None:
    body = b"\x1b]0;owned\x07\r\n2026-01-01 INFO forged line " + b"a" * 9_000
    server.script("/image", Reply(400, body, {"Content-Type": "text/plain"}))

    with pytest.raises(ServerRefuses, match="forged line") as raised:
        client.pull_image()
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("reply", "methods"),
    [
        (Reply(200, headers={"Allow": "OPTIONS, get,HEAD"}), {"OPTIONS", "GET", "HEAD"}),
        (Reply(405, headers={"Allow": "GET"}), {"GET"}),
        (Reply(204), None),
        (Reply(405), None),
        (Reply(501), None),
    ],
)
def test_options_tell_the_methods_of_a_path_and_take_no_image(
    server: ScriptedServer, client: ServerClient, reply: Reply, methods: set[str] | None
) -> None:
    server.script("/image", reply)

    assert client.methods("image_path") == methods
    assert [request.method for request in server.requests] == ["OPTIONS"]


@pytest.mark.parametrize("status", [301, 401, 403, 404, 429, 500, 503])
def test_a_refusal_or_a_fault_is_that_of_options_too(
    server: ScriptedServer, client: ServerClient, status: int
) -> None:
    server.script("/results", Reply(status))

    with pytest.raises(RetryLater, match=str(status)) as raised:
        client.methods("results_path")
    assert isinstance(raised.value, ServerRefuses) == (status < 429)
    if status == 404:
        assert str(raised.value).endswith("[server] results_path")
