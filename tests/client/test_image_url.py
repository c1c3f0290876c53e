"""An image behind a URL: where it may lead, and what becomes of what is wrong there."""

import socket

import pytest

from tests.client.helpers import PNG, TOKEN, NewClient, json_reply, lost, pulled
from tests.scripted_server import Reply, ScriptedServer
from worker.client import ServerClient
from worker.client.image_url import expect_public
from worker.client.server_client import Unfinished
from worker.config import ServerConfig
from worker.errors import ImageLost, RetryLater, ServerBusy, ServerRefuses


def test_an_image_url_at_our_own_server_is_followed_with_our_token(
    server: ScriptedServer, new_client: NewClient
) -> None:
    server.script("/image", json_reply(image_url="/files/1.png?size=full", task_id="task-1"))
    server.script("/files/1.png", Reply(200, b"png", PNG))
    client = new_client(token=TOKEN)

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
        client = new_client(token=TOKEN, allowed_hosts=(f"127.0.0.1:{other.port}",))

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
        *("64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::10.0.0.1"),
        *("2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
        *("fec0::1", "::127.0.0.1", "::10.0.0.1", "::ffff:0:10.0.0.1", "100::1", "2001:db8::1"),
    ],
)
def test_an_address_inside_our_network_is_no_public_one(address: str) -> None:
    with pytest.raises(ImageLost, match="private address"):
        expect_public(address, 80, ("pictures.example", "8.8.8.8"))


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "2606:4700::1111", "64:ff9b::8.8.8.8"],
)
def test_any_other_address_is(address: str) -> None:
    expect_public(address, 80, ())


@pytest.mark.parametrize(
    ("address", "listed"),
    [
        ("10.0.0.1", "10.0.0.0/8"),
        ("64:ff9b::10.0.0.1", "10.0.0.0/8"),
        ("64:ff9b:1::1", "64:ff9b:1::/48"),
        ("fec0::1", "[fec0::1]:80"),
    ],
)
def test_an_address_inside_our_network_may_be_allowed(address: str, listed: str) -> None:
    expect_public(address, 80, (listed,))


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


@pytest.mark.parametrize("kind", ["text/html", "", "application/json"])
def test_a_type_that_stays_wrong_loses_that_image_and_not_the_queue(
    server: ScriptedServer, client: ServerClient, kind: str
) -> None:
    server.script("/image", json_reply(image_url="/1.png", task_id="task-1"))
    server.script("/1.png", Reply(200, b"<html>", {"Content-Type": kind}))

    for _ in range(2):
        with pytest.raises(RetryLater):
            client.pull_image()
    assert lost(client) == "dead_url"


def test_a_type_that_is_wrong_for_a_moment_loses_nothing(
    server: ScriptedServer, client: ServerClient
) -> None:
    server.script("/image", json_reply(image_url="/1.png", task_id="task-1"))
    page = Reply(200, b"<html>", {"Content-Type": "text/html"})
    server.script("/1.png", page, page, Reply(200, b"png", PNG))

    for _ in range(2):
        with pytest.raises(RetryLater):
            client.pull_image()
    assert pulled(client).content == b"png"


def test_an_image_that_is_offered_once_waits_until_its_url_can_be_reached(
    server: ScriptedServer, client: ServerClient
) -> None:
    """A server that gives each image away once would not offer it again."""
    one, two = (json_reply(image_url=f"/{i}.png", task_id=f"task-{i}") for i in (1, 2))
    server.script("/image", one, two, Reply(200, b"3", PNG | {"X-Task-Id": "task-3"}), Reply(204))
    server.script("/1.png", Reply(503), Reply(503), Reply(200, b"1", PNG))
    server.script("/2.png", Reply(500), Reply(200, b"2", PNG))

    for _ in range(2):
        with pytest.raises(RetryLater):
            client.pull_image()
    assert pulled(client).task_id == "task-3"  # new images are not held up
    with pytest.raises(RetryLater):
        client.pull_image()
    assert [pulled(client).task_id for _ in range(2)] == ["task-2", "task-1"]
    assert client.pull_image() is None


def test_an_image_that_is_offered_again_is_not_kept_a_second_time(
    server: ScriptedServer, client: ServerClient
) -> None:
    offers = [json_reply(image_url="/1.png", task_id="task-1", lease_id=i) for i in range(2)]
    server.script("/image", *offers, Reply(204))
    server.script("/1.png", Reply(503), Reply(200, b"1", PNG))

    with pytest.raises(RetryLater):
        client.pull_image()
    assert pulled(client).lease_id == "1"
    assert client.pull_image() is None


def test_of_an_offer_that_waits_no_more_is_kept_than_it_needs(server: ScriptedServer) -> None:
    """The number of them has no bound."""
    large, offer = " " * 1_000_000, {"image_url": "/1.png", "task_id": "task-1", "lease_id": "l"}
    server.script("/image", json_reply(**offer, threshold=f"0.3{large}", more=large), Reply(204))
    server.script("/1.png", Reply(500), Reply(200, b"png", PNG))
    unfinished: Unfinished = {}
    client = ServerClient(ServerConfig(url=server.url), "worker-1", unfinished)
    with pytest.raises(RetryLater, match="500"):
        client.pull_image()
    assert len(repr(unfinished)) < 20_000
    image = pulled(client)
    assert (image.task_id, image.content, image.threshold) == ("task-1", b"png", 0.3)
    client.close()
