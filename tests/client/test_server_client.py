"""The client against real servers on loopback: what each answer comes to, and what never leaks."""

import base64
import contextlib
import gzip
import hashlib
import json
import logging
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tests.scripted_server import (
    HEAD,
    RawServer,
    Reply,
    ScriptedServer,
    answering,
    drip_body,
    drip_headers,
    dripping,
    half_body,
    half_chunk,
    hang,
    long_body,
    read_head,
    reset,
)
from worker import __version__
from worker.client.image_url import expect_public
from worker.client.server_client import PulledImage, ServerClient
from worker.config import ServerConfig
from worker.errors import (
    ImageLost,
    RetryLater,
    ServerBusy,
    ServerRefuses,
    ServerUnreachable,
    UsageError,
)

TIMEOUT = 0.5
SLACK = 1.0  # seconds that a busy machine may add
NOTHING_NEW = b"HTTP/1.1 204 No Content\r\n\r\n"
PNG = {"Content-Type": "image/png"}
TOKEN = "s3cr3t-t0k3n"

NewClient = Callable[..., ServerClient]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted


@pytest.fixture
def new_client(server: ScriptedServer) -> Iterator[NewClient]:
    clients: list[ServerClient] = []

    def new(**keys: Any) -> ServerClient:
        clients.append(
            ServerClient(ServerConfig(**{"url": server.url, "timeout": TIMEOUT} | keys), "worker-1")
        )
        return clients[-1]

    yield new
    for client in clients:
        client.close()


@pytest.fixture
def client(new_client: NewClient) -> ServerClient:
    return new_client(results_path="/results", max_image_bytes=10_000)


def pulled(client: ServerClient) -> PulledImage:
    image = client.pull_image()
    assert image is not None
    return image


def json_reply(**document: Any) -> Reply:
    return Reply(200, json.dumps(document).encode(), {"Content-Type": "application/json"})


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- Pulling an image that is well


def test_an_image_comes_with_what_its_headers_say(
    server: ScriptedServer, client: ServerClient
) -> None:
    headers = {
        "Content-Type": "image/png",
        "Content-Disposition": 'attachment; filename="face.png"',
        "X-Task-Id": "task-1",
        "X-Lease-Id": "lease-1",
        "X-Threshold": "0.35",
        "ETag": '"v1"',
    }
    server.script("/image", Reply(200, b"png", headers))

    image = pulled(client)

    assert image == PulledImage(
        "task-1", "face.png", b"png", 0.35, "lease-1", '"v1"', None, sha256(b"png")
    )
    asked = server.requests[0]
    assert asked.headers["User-Agent"] == f"emotion-worker/{__version__}"
    assert asked.headers["X-Worker-Id"] == "worker-1"
    assert asked.headers["Accept"] == "image/*, application/json"
    assert not {"Authorization", "If-None-Match", "X-Lease-Id"} & set(asked.headers)


def test_an_etag_is_sent_back_once_the_record_of_its_image_is_stored(
    server: ScriptedServer, client: ServerClient
) -> None:
    tagged = Reply(200, b"png", PNG | {"ETag": 'W/"v1"'})
    server.script("/image", tagged, tagged, Reply(304), Reply(200, b"other", PNG), Reply(204))

    pulled(client)
    client.stored(pulled(client))
    assert client.pull_image() is None
    client.stored(pulled(client))  # this one has none
    assert client.pull_image() is None

    sent = [request.headers.get("If-None-Match") for request in server.requests]
    assert sent == [None, None, 'W/"v1"', 'W/"v1"', None]


@pytest.mark.parametrize("status", [204, 304])
def test_nothing_new(server: ScriptedServer, client: ServerClient, status: int) -> None:
    server.script("/image", Reply(status))

    assert client.pull_image() is None


@pytest.mark.parametrize(
    ("etag", "task_id"), [({"ETag": '"v1"'}, "v1"), ({"ETag": 'W/"v1"'}, None), ({}, None)]
)
def test_an_image_without_a_name_is_named_by_a_strong_etag_or_its_bytes(
    server: ScriptedServer, client: ServerClient, etag: dict[str, str], task_id: str | None
) -> None:
    server.script("/image", Reply(200, b"png", {"Content-Type": "application/octet-stream"} | etag))

    image = pulled(client)

    assert image.task_id == (task_id or sha256(b"png"))
    assert image.file_name == image.task_id
    assert (image.threshold, image.lease_id, image.etag) == (None, None, etag.get("ETag"))


def test_an_image_in_json(server: ScriptedServer, client: ServerClient) -> None:
    server.script(
        "/image",
        json_reply(
            image="data:image/png;base64," + base64.b64encode(b"png").decode(),
            file_name="face.png",
            threshold=0.2,
            task_id="task-1",
            lease_id=17,
        ),
        json_reply(image=base64.b64encode(b"png").decode(), threshold=None),
    )

    assert pulled(client) == PulledImage(
        "task-1", "face.png", b"png", 0.2, "17", None, None, sha256(b"png")
    )
    assert pulled(client).task_id == sha256(b"png")


def test_a_gzipped_answer_is_unpacked(server: ScriptedServer, client: ServerClient) -> None:
    server.script("/image", Reply(200, gzip.compress(b"png"), PNG | {"Content-Encoding": "gzip"}))

    assert pulled(client).content == b"png"


# --- The image's own fault


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"image": "%%%"}, "bad_base64"),
        ({"image": ""}, "empty"),
        ({}, "missing_key"),
        ({"image": 17}, "missing_key"),
        ({"image": "YWJj", "threshold": "abc"}, "bad_threshold"),
        ({"image": "YWJj", "threshold": 7}, "bad_threshold"),
        ({"image": "YWJj", "threshold": True}, "bad_threshold"),
        ({"image": "YWJj", "threshold": float("nan")}, "bad_threshold"),
        ({"image": "YWJj" * 4_000}, "too_large"),
        ({"image": "YWJj" * 40_000}, "too_large"),
        ({"image": "YWJj", "more": [[]] * 2_000}, "bad_json"),
    ],
)
def test_a_fault_in_the_json_is_the_images_if_it_names_a_task_else_the_servers(
    server: ScriptedServer, client: ServerClient, document: dict[str, Any], kind: str
) -> None:
    unnamed = json_reply(**document)
    named = Reply(200, unnamed.body, {**unnamed.headers, "X-Task-Id": "task-1"})
    server.script("/image", named, unnamed)

    image = pulled(client)
    assert image.problem is not None and image.problem.kind == kind
    assert (image.task_id, image.content, image.threshold) == ("task-1", b"", None)
    with pytest.raises(RetryLater, match="names no task"):
        client.pull_image()


def test_deeply_nested_json_is_a_fault_and_no_crash(
    server: ScriptedServer, new_client: NewClient
) -> None:
    headers = {"Content-Type": "application/json"}
    server.script("/image", Reply(200, b"[" * 500_000, headers), Reply(200, b"[" * 999, headers))
    client = new_client()

    for _ in range(2):
        with pytest.raises(RetryLater, match="JSON"):
            client.pull_image()


@pytest.mark.parametrize("threshold", ["abc", "7", "nan", ""])
def test_a_threshold_header_that_is_no_threshold_is_the_images_fault(
    server: ScriptedServer, client: ServerClient, threshold: str
) -> None:
    server.script("/image", Reply(200, b"png", PNG | {"X-Threshold": threshold}))

    image = pulled(client)

    assert image.problem is not None and image.problem.kind == "bad_threshold"
    assert (image.task_id, image.content) == (sha256(b"png"), b"")


def test_an_image_without_bytes_is_lost(server: ScriptedServer, client: ServerClient) -> None:
    server.script("/image", Reply(200, b"", PNG))

    image = pulled(client)

    assert image.problem is not None and image.problem.kind == "empty"


def test_an_image_of_just_the_allowed_size_is_taken(
    server: ScriptedServer, client: ServerClient
) -> None:
    server.script("/image", Reply(200, b"a" * 10_000, PNG), Reply(200, b"a" * 10_001, PNG))

    assert len(pulled(client).content) == 10_000
    assert pulled(client).problem is not None


@pytest.mark.parametrize("kind", [b"image/png", b"application/json"])
def test_what_is_declared_too_large_and_is_named_is_not_read(
    new_client: NewClient, kind: bytes
) -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Task-Id: task-1\r\nContent-Length: 99999999\r\nContent-Type: "
    with RawServer(dripping(head + kind + b"\r\n\r\n", b"a", pause=60)) as raw:
        client = new_client(url=raw.url, timeout=5)
        begin = time.monotonic()

        image = pulled(client)

    assert image.problem is not None and image.problem.kind == "too_large"
    assert image.task_id == "task-1"
    assert time.monotonic() - begin < SLACK


def test_what_is_too_large_and_unnamed_is_named_by_its_bytes_up_to_the_limit(
    new_client: NewClient,
) -> None:
    declared = answering(HEAD + b"Content-Length: 30000\r\n\r\n" + b"a" * 30_000)
    counted = answering(HEAD + b"\r\n" + b"a" * 30_000)
    with RawServer(declared, counted) as raw:
        client = new_client(url=raw.url, max_image_bytes=10_000)
        for image in (pulled(client), pulled(client)):
            assert image.problem is not None and image.problem.kind == "too_large"
            assert image.task_id == sha256(b"a" * 10_000)


@pytest.mark.parametrize("layers", [1, 2, 6])
def test_a_bomb_is_not_unpacked_beyond_the_limit(new_client: NewClient, layers: int) -> None:
    bomb = b"\0" * 50_000_000
    for _ in range(layers):
        bomb = gzip.compress(bomb)
    encoding = ", ".join(["gzip"] * layers).encode()
    with RawServer(answering(HEAD + b"Content-Encoding: " + encoding + b"\r\n\r\n" + bomb)) as raw:
        client = new_client(url=raw.url, max_image_bytes=100_000)

        tracemalloc.start()
        with contextlib.suppress(RetryLater):  # so many layers that they are not unpacked at all
            image = pulled(client)
            assert image.problem is not None and image.problem.kind == "too_large"
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert peak < 2_000_000


# --- image_url


def test_an_image_url_at_our_own_server_is_followed_with_our_token(
    server: ScriptedServer, new_client: NewClient
) -> None:
    server.script("/image", json_reply(image_url="/files/1.png?size=full", task_id="task-1"))
    server.script("/files/1.png", Reply(200, b"png", PNG))
    client = new_client(token=SecretStr(TOKEN))

    image = pulled(client)

    assert (image.task_id, image.content, image.problem) == ("task-1", b"png", None)
    assert server.requests[1].headers["Authorization"] == f"Bearer {TOKEN}"


def test_an_allowed_host_is_asked_without_anything_of_ours(
    server: ScriptedServer, new_client: NewClient
) -> None:
    with ScriptedServer() as other:
        other.script("/1.png", Reply(200, b"png", PNG))
        server.script(
            "/image", json_reply(image_url=f"{other.url}/1.png", task_id="task-1", lease_id="l")
        )
        client = new_client(token=SecretStr(TOKEN), allowed_hosts=(f"127.0.0.1:{other.port}",))

        assert pulled(client).content == b"png"

        ours = {"Authorization", "X-Worker-Id", "X-Lease-Id", "Cookie"}
        assert not ours & set(other.requests[0].headers)
        assert TOKEN not in str(other.requests)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/a",
        "data:image/png;base64,YWJj",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/a",
        "http://10.0.0.1/a",
        "//192.168.0.1/a",
        "http://localhost:{port}/1.png",
        "http://127.1:{port}/1.png",
        "http://2130706433:{port}/1.png",
        "http://0177.0.0.1:{port}/1.png",
        "http://0x7f000001:{port}/1.png",
        "http://[::ffff:127.0.0.1]:{port}/1.png",
        "https://127.0.0.1:{port}/1.png",
        "http://127.0.0.1:{other}/1.png",
        "http://127.0.0.1/1.png",
        "http://user:password@127.0.0.1:{port}/1.png",
        "http://127.0.0.1:{other}\\@127.0.0.1:{port}/1.png",
        "http://127.0.0.1:{port}@10.0.0.1/1.png",
        "http://allowed.example:8080/1.png",
        "http://allowed.example.evil.example/1.png",
        "http://[::1/1.png",
        "http://127.0.0.1:99999/1.png",
        "http://\ud800.example/1.png",
        "http://" + "a" * 3_000,
        "/1.png?" + "a" * 8_000,
    ],
)
def test_an_image_url_to_anywhere_else_is_refused_and_not_asked(
    server: ScriptedServer, new_client: NewClient, url: str
) -> None:
    with ScriptedServer() as other:
        url = url.replace("{port}", str(server.port)).replace("{other}", str(other.port))
        server.script("/image", json_reply(image_url=url, task_id="task-1"))
        client = new_client(allowed_hosts=("allowed.example",))

        image = pulled(client)

        assert image.problem is not None and image.problem.kind == "refused_url"
        assert str(image.problem).isprintable() and len(str(image.problem)) < 400
        assert len(server.requests) == 1
        assert not other.requests


@pytest.mark.parametrize(
    ("listed", "kind"),
    [
        ((), "refused_url"),
        (("127.0.0.2", "10.0.0.0/8", "127.0.0.1:1"), "refused_url"),
        (("127.0.0.1",), None),
        (("127.0.0.0/8",), None),
    ],
)
def test_an_allowed_name_leads_to_a_private_address_only_if_that_is_allowed_too(
    server: ScriptedServer,
    new_client: NewClient,
    monkeypatch: pytest.MonkeyPatch,
    listed: tuple[str, ...],
    kind: str | None,
) -> None:
    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *given, **named: look_up(
            "127.0.0.1" if host == "pictures.example" else host, *given, **named
        ),
    )
    with ScriptedServer() as other:
        other.script("/1.png", Reply(200, b"png", PNG))
        name = f"pictures.example:{other.port}"
        server.script("/image", json_reply(image_url=f"http://{name}/1.png", task_id="task-1"))

        image = pulled(new_client(allowed_hosts=(name, *listed)))

        assert (image.problem and image.problem.kind) == kind
        assert len(other.requests) == (kind is None)


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "172.16.0.1", "192.168.0.1", "127.0.0.1", "169.254.169.254", "100.64.0.1"),
        *("0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1%eth0", "fc00::1"),
        *("ff02::1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:100.64.0.1"),
    ],
)
def test_an_address_inside_our_network_is_no_public_one(address: str) -> None:
    with pytest.raises(ImageLost, match="private address"):
        expect_public(address, 80, ("pictures.example", "8.8.8.8"))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_any_other_address_is(address: str) -> None:
    expect_public(address, 80, ())


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(404), "dead_url"),
        (Reply(302, headers={"Location": "/2.png"}), "dead_url"),
        (Reply(200, b"a" * 10_001, PNG), "too_large"),
        (Reply(200, b"", PNG), "empty"),
    ],
)
def test_what_is_wrong_behind_an_image_url_for_good_is_the_images_fault(
    server: ScriptedServer, client: ServerClient, reply: Reply, kind: str
) -> None:
    server.script("/image", json_reply(image_url="/1.png", task_id="task-1"))
    server.script("/1.png", reply)

    image = pulled(client)

    assert image.problem is not None and image.problem.kind == kind
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(503), ServerBusy),
        (Reply(200, b"<html>", {"Content-Type": "text/html"}), RetryLater),
        (Reply(401), ServerRefuses),
    ],
)
def test_what_may_pass_behind_an_image_url_is_a_fault(
    server: ScriptedServer, client: ServerClient, reply: Reply, error: type[RetryLater]
) -> None:
    server.script("/image", json_reply(image_url="/1.png", task_id="task-1"))
    server.script("/1.png", reply)

    with pytest.raises(RetryLater) as raised:
        client.pull_image()
    assert type(raised.value) is error


# --- The server's fault


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
@pytest.mark.parametrize(("value", "wait"), [("7", 7.0), ("-7", None), ("soon", None)])
def test_the_wait_that_the_server_asks_for_is_passed_on(
    server: ScriptedServer, client: ServerClient, status: int, value: str, wait: float | None
) -> None:
    server.script("/image", Reply(status, headers={"Retry-After": value}))

    with pytest.raises(RetryLater) as raised:
        client.pull_image()
    assert raised.value.wait == wait


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
        with RawServer(dripping(head.encode(), b"a" * 100_000, pause=0.01)) as raw:
            client = new_client(url=raw.url, timeout=5, token=SecretStr(TOKEN))
            begin = time.monotonic()
            with pytest.raises(ServerRefuses, match=other.url):
                client.pull_image()
            assert time.monotonic() - begin < SLACK
        assert not other.requests


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "", "multipart/mixed"])
def test_a_page_with_status_200_is_no_image(
    server: ScriptedServer, client: ServerClient, kind: str
) -> None:
    server.script("/image", Reply(200, b"<html>", {"Content-Type": kind, "X-Task-Id": "task-1"}))

    with pytest.raises(RetryLater, match=r"\[server\] url"):
        client.pull_image()


@pytest.mark.parametrize(
    "act",
    [
        hang,
        reset,
        drip_headers,
        dripping(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
        answering(b""),
        answering(b"SSH-2.0-OpenSSH_9.9\r\n"),
        answering(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 1_000 + b"\r\n"),
        answering(b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 100_000),
        answering(HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
    ],
)
def test_without_a_sound_answer_the_server_is_unreachable(
    new_client: NewClient, act: Callable[[socket.socket], None]
) -> None:
    with RawServer(act) as raw:
        client = new_client(url=raw.url)
        begin = time.monotonic()
        with pytest.raises(ServerUnreachable, match=raw.url):
            client.pull_image()
        assert time.monotonic() - begin < TIMEOUT + SLACK
        assert raw.connections == 1


@pytest.mark.parametrize(
    "act",
    [
        drip_body,
        dripping(HEAD + b"\r\n", b"a"),
        dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
        dripping(HEAD + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"")),
        half_body,
        half_chunk,
        answering(HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        answering(HEAD + b"Content-Encoding: gzip\r\n\r\nno gzip"),
    ],
)
def test_an_answer_that_breaks_off_or_drips_is_no_image(
    new_client: NewClient, act: Callable[[socket.socket], None]
) -> None:
    with RawServer(act) as raw:
        client = new_client(url=raw.url)
        begin = time.monotonic()
        with pytest.raises(RetryLater, match="broke off") as raised:
            client.pull_image()
        assert not isinstance(raised.value, ServerUnreachable)
        assert time.monotonic() - begin < TIMEOUT + SLACK


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


def test_one_dead_address_of_a_host_leaves_time_for_the_others(
    server: ScriptedServer, new_client: NewClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script("/image", Reply(204))
    kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    addresses = [(*kind, (host, server.port)) for host in ("127.0.0.2", "127.0.0.1")]
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *_, **__: [
            found for found in addresses if host in ("two.example", found[4][0])
        ],
    )
    with contextlib.ExitStack() as stack:
        # Where the queue of an address is full, a connection is neither taken nor refused.
        full = stack.enter_context(socket.create_server(("127.0.0.2", server.port), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())

        assert new_client(url=f"http://two.example:{server.port}").pull_image() is None


def read_slowly(connection: socket.socket) -> None:
    while connection.recv(100_000):
        time.sleep(0.05)


@pytest.mark.parametrize("act", [read_slowly, lambda _: time.sleep(5)])
def test_a_server_that_hardly_reads_cannot_hold_a_post_beyond_the_deadline(
    new_client: NewClient, act: Callable[[socket.socket], None]
) -> None:
    with RawServer(act) as raw:
        client = new_client(url=raw.url, results_path="/results")
        begin = time.monotonic()
        with pytest.raises(ServerUnreachable):
            client.post_result({"task_id": "a", "padding": "a" * 20_000_000}, lease_id=None)
        assert time.monotonic() - begin < TIMEOUT + SLACK


# --- Connections that are kept open


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


# --- The threshold


@pytest.mark.parametrize(
    "body", ['{"threshold": 0.35}', "0.35", " .35 ", '"0.35"', '{"threshold": "0.35", "a": 1}']
)
def test_the_threshold_is_pulled(server: ScriptedServer, client: ServerClient, body: str) -> None:
    server.script("/threshold", Reply(200, body.encode(), {"Content-Type": "text/plain"}))

    assert client.pull_threshold() == 0.35


@pytest.mark.parametrize(
    "body",
    [
        *("", "abc", "7", "-1", "true", "null", "NaN", "[0.5]", "[" * 9_000, "<html>0.5</html>"),
        *('{"a": 0.5}', '{"threshold": "abc"}', "a" * 100_000, " " * 20_000 + "0.5"),
    ],
)
def test_a_threshold_that_is_none_is_a_fault(
    server: ScriptedServer, client: ServerClient, body: str
) -> None:
    server.script("/threshold", Reply(200, body.encode()))

    with pytest.raises(RetryLater, match="no number from 0 to 1") as raised:
        client.pull_threshold()
    assert len(str(raised.value)) < 400


def test_without_a_threshold_the_fallback_applies_and_the_log_says_so_once(
    server: ScriptedServer, new_client: NewClient, caplog: pytest.LogCaptureFixture
) -> None:
    client = new_client(fallback_threshold=0.7)

    with caplog.at_level(logging.DEBUG):
        assert [client.pull_threshold() for _ in range(3)] == [0.7] * 3
    assert [record.message.count("0.7") for record in caplog.records] == [1]


# --- Posting


RECORD = {"file_name": "ü.png", "threshold": 0.2, "faces": [], "task_id": "task-1"}


@pytest.mark.parametrize("status", [200, 201, 202, 204, 409])
def test_a_posted_record_is_accepted(
    server: ScriptedServer, client: ServerClient, status: int
) -> None:
    server.script("/results", Reply(status))

    assert client.post_result(RECORD, lease_id="lease-1") is None

    (posted,) = server.requests
    assert (posted.method, json.loads(posted.body)) == ("POST", RECORD)
    assert posted.headers["Content-Type"] == "application/json"
    assert posted.headers["Idempotency-Key"] == "task-1"
    assert posted.headers["X-Lease-Id"] == "lease-1"


@pytest.mark.parametrize("status", [400, 410, 413, 415, 422])
def test_a_record_may_be_refused_for_good(
    server: ScriptedServer, client: ServerClient, status: int
) -> None:
    server.script("/results", Reply(status, b"no\x1b[2J such task", {"Content-Type": "text/plain"}))

    refusal = client.post_result(RECORD, lease_id=None)

    assert refusal == f"status {status} ('no[2J such task')"
    assert "X-Lease-Id" not in server.requests[0].headers


@pytest.mark.parametrize("status", [301, 401, 403, 404, 405, 408, 429, 500, 503])
def test_any_other_answer_to_a_post_is_tried_again(
    server: ScriptedServer, client: ServerClient, status: int
) -> None:
    server.script("/results", Reply(status, headers={"Retry-After": "3"}))

    with pytest.raises(RetryLater) as raised:
        client.post_result(RECORD, lease_id=None)
    assert isinstance(raised.value, ServerRefuses) == (status in (301, 401, 403, 404, 405))
    if status in (404, 405):
        assert "[server] results_path" in str(raised.value)


@pytest.mark.parametrize("task_id", ["a" * 201, "zwei Wörter", "a b", "a\nX-Evil: 1"])
def test_an_unwieldy_task_id_is_hashed_for_its_key(
    server: ScriptedServer, client: ServerClient, task_id: str
) -> None:
    server.script("/results", Reply(204))

    client.post_result({"task_id": task_id}, lease_id=None)

    assert server.requests[0].headers["Idempotency-Key"] == sha256(task_id.encode())


# --- The token


def token_file(tmp_path: Path, content: str = TOKEN, mode: int = 0o600) -> Path:
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(mode)
    return file


def test_the_token_comes_from_its_file_or_first_from_the_environment(
    server: ScriptedServer, new_client: NewClient, tmp_path: Path
) -> None:
    server.script("/image", Reply(204))
    file = token_file(tmp_path, f" {TOKEN}\r\n")

    new_client(token_file=file).pull_image()
    new_client(token_file=file, token=SecretStr("other")).pull_image()

    sent = [request.headers["Authorization"] for request in server.requests]
    assert sent == [f"Bearer {TOKEN}", "Bearer other"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_token_file_that_others_may_read_is_refused(
    new_client: NewClient, tmp_path: Path, mode: int
) -> None:
    file = token_file(tmp_path, mode=mode)

    with pytest.raises(UsageError, match=f"chmod 600 {file}"):
        new_client(token_file=file)


@pytest.mark.parametrize("content", ["", "\n", "two words", "a\r\nX-Evil: 1", "tökén", "a" * 9_000])
def test_a_token_that_is_none_is_refused_and_not_shown(
    new_client: NewClient, tmp_path: Path, content: str
) -> None:
    file = token_file(tmp_path, content)

    for keys in ({"token_file": file}, {"token": SecretStr(content)}):
        with pytest.raises(UsageError, match="holds no token") as raised:
            new_client(**keys)
        assert not content.strip() or content not in str(raised.value)


def test_a_missing_token_file_is_named(new_client: NewClient, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"token_file .*nothing: cannot be read: No such file"):
        new_client(token_file=tmp_path / "nothing")


def test_after_a_401_the_token_is_read_again(
    server: ScriptedServer,
    new_client: NewClient,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.script("/image", Reply(204), Reply(401), Reply(401), Reply(204))
    file = token_file(tmp_path, "old")
    client = new_client(token_file=file)

    client.pull_image()
    file.write_text("new")
    for _ in range(2):
        with pytest.raises(ServerRefuses):
            client.pull_image()
        file.chmod(0o644)  # from now on it cannot be used: the last good one stays
    client.pull_image()

    sent = [request.headers["Authorization"] for request in server.requests]
    assert sent == ["Bearer old", "Bearer old", "Bearer old", "Bearer old"]
    assert "chmod 600" in caplog.text

    server.script("/image", Reply(401), Reply(204))
    file.chmod(0o600)
    with pytest.raises(ServerRefuses):
        client.pull_image()
    client.pull_image()
    assert server.requests[-1].headers["Authorization"] == "Bearer new"


def test_the_token_is_in_no_message_even_if_the_server_repeats_it(
    server: ScriptedServer, new_client: NewClient, caplog: pytest.LogCaptureFixture
) -> None:
    text = {"Content-Type": "text/plain"}
    body = f"bad token {TOKEN[:4]}\x00{TOKEN[4:]}".encode()
    server.script(
        "/image",
        Reply(401, body, text),
        Reply(302, headers={"Location": f"/login?token={TOKEN}"}),
        Reply(200, b"", {"Content-Type": f"text/{TOKEN}"}),
    )
    server.script("/threshold", Reply(200, body, text))
    server.script("/results", Reply(400, body, text))
    client = new_client(token=SecretStr(TOKEN), results_path="/results")
    messages = [repr(vars(client))]

    with caplog.at_level(logging.DEBUG):
        for call in (
            client.pull_image,
            client.pull_image,
            client.pull_image,
            client.pull_threshold,
        ):
            with pytest.raises(RetryLater) as raised:
                call()
            messages.append(str(raised.value))
        messages.append(str(client.post_result(RECORD, lease_id=None)))

    assert all("***" in message for message in messages[1:])
    assert TOKEN not in "".join(messages[1:]) + caplog.text


def test_the_servers_words_are_short_and_hold_no_control_characters(
    server: ScriptedServer, client: ServerClient
) -> None:
    body = b"\x1b]0;owned\x07\r\n2026-01-01 INFO forged line " + b"a" * 9_000
    server.script("/image", Reply(400, body, {"Content-Type": "text/plain"}))

    with pytest.raises(ServerRefuses, match="forged line") as raised:
        client.pull_image()
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 400


def test_headers_that_cannot_be_parsed_stay_out_of_the_log(
    new_client: NewClient, caplog: pytest.LogCaptureFixture
) -> None:
    odd = b"HTTP/1.1 204 No Content\r\n no header at all\r\nSECOND\x1b[31m\r\n\r\n"
    with RawServer(answering(odd)) as raw, caplog.at_level(logging.DEBUG):
        assert new_client(url=raw.url).pull_image() is None
    assert not caplog.records


# --- The environment


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
    new_client(token=SecretStr(TOKEN)).pull_image()

    assert "Authorization" not in server.requests[0].headers
    assert server.requests[1].headers["Authorization"] == f"Bearer {TOKEN}"
