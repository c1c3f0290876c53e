"""The image's own fault: it becomes an error record, so that the server can move on."""

import contextlib
import gzip
import tracemalloc
from typing import Any

import pytest

from tests.client.helpers import PNG, NewClient, base64_of, json_reply, lost, pulled, sha256
from tests.scripted_server import HEAD, RawServer, Reply, ScriptedServer, answering, dripping
from worker.client import ServerClient
from worker.errors import RetryLater

FAULTS = [
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
    ({"image_url": "http://10.0.0.1/"}, "refused_url"),
    ({"image_url": "/none.png"}, "dead_url"),
]


@pytest.mark.parametrize(("document", "kind"), FAULTS)
def test_a_fault_in_the_json_is_the_images_and_it_keeps_its_task(
    server: ScriptedServer, client: ServerClient, document: dict[str, Any], kind: str
) -> None:
    server.script("/image", json_reply(task_id="task-1", **document))
    assert lost(client) == kind

    unnamed = json_reply(**document)
    server.script("/image", Reply(200, unnamed.body, {**unnamed.headers, "X-Task-Id": "task-1"}))
    image = pulled(client)
    assert image.problem is not None and image.problem.kind == kind
    assert image.task_id == "task-1"


@pytest.mark.parametrize(("document", "kind"), FAULTS)
def test_json_that_names_no_task_is_named_by_what_it_holds(
    server: ScriptedServer, client: ServerClient, document: dict[str, Any], kind: str
) -> None:
    reply = json_reply(**document)
    server.script("/image", reply)

    image = pulled(client)

    assert image.problem is not None and image.problem.kind == kind
    image_bytes = {"bad_threshold": b"abc", "too_large": (b"abc" * 4_000)[:10_000]}.get(kind)
    if image_bytes is None or len(reply.body) > 20_000:
        # No image could be read: the body is the name, up to the limit.
        assert image.digest is None
        image_bytes = reply.body[: 10_000 * 4 // 3 + 10_000]
    assert image.task_id == image.file_name == sha256(image_bytes)


@pytest.mark.parametrize("body", [b"[" * 500_000, b"[" * 999, b"[1]", b"{", b"", b"\xff", b"null"])
def test_json_that_cannot_be_read_is_named_by_its_bytes(
    server: ScriptedServer, new_client: NewClient, body: bytes
) -> None:
    server.script("/image", Reply(200, body, {"Content-Type": "application/json"}))

    image = pulled(new_client())

    assert image.problem is not None
    assert image.problem.kind == ("bad_json" if body else "empty")
    assert image.task_id == sha256(body)


@pytest.mark.parametrize("said", [30, "30", 1.5, -1, "abc", "nan"])
def test_a_bad_threshold_is_said_with_what_was_probably_meant(
    server: ScriptedServer, client: ServerClient, said: object
) -> None:
    server.script(
        "/image",
        Reply(200, b"png", PNG | {"X-Threshold": str(said)}),
        json_reply(image=base64_of(b"png"), threshold=said),
    )

    images = [pulled(client) for _ in range(2)]

    hint = {"30": "; did you mean 0.3?", "1.5": "; did you mean 0.015?"}.get(str(said), "")
    assert {str(image.problem) for image in images} == {f"threshold {said} is not in 0..1{hint}"}
    assert {image.task_id for image in images} == {sha256(b"png")}
    assert {image.content for image in images} == {b""}


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
    # The body never comes: whoever waits for it gets no image.
    with RawServer(dripping(head + kind + b"\r\n\r\n", b"a", pause=1_000)) as raw:
        image = pulled(new_client(url=raw.url))

    assert image.problem is not None and image.problem.kind == "too_large"
    assert image.task_id == "task-1"


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
