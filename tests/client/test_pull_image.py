"""An image that is well: what its headers, or its JSON, say about it."""

import gzip

import pytest

from tests.client.helpers import PNG, base64_of, json_reply, pulled, sha256
from tests.scripted_server import Reply, ScriptedServer
from worker import __version__
from worker.client import PulledImage, ServerClient


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


@pytest.mark.parametrize(
    "kind",
    [
        *("image/png", "image/jpg", "IMAGE/JPEG; charset=binary", "application/octet-stream"),
        *("binary/octet-stream", "application/x-download", "application/force-download"),
        *("application/download", "application/x-binary", "Application/Octet-Stream"),
    ],
)
def test_what_object_stores_and_frameworks_call_an_image_is_one(
    server: ScriptedServer, client: ServerClient, kind: str
) -> None:
    server.script("/image", Reply(200, b"png", {"Content-Type": kind}))

    assert pulled(client).content == b"png"


def test_an_image_in_json(server: ScriptedServer, client: ServerClient) -> None:
    server.script(
        "/image",
        json_reply(
            image="data:image/png;base64," + base64_of(b"png"),
            file_name="face.png",
            threshold=0.2,
            task_id="task-1",
            lease_id=17,
        ),
        json_reply(image=base64_of(b"png"), threshold=None),
    )

    assert pulled(client) == PulledImage(
        "task-1", "face.png", b"png", 0.2, "17", None, None, sha256(b"png")
    )
    assert pulled(client).task_id == sha256(b"png")


def test_an_empty_threshold_is_none_that_came_along(
    server: ScriptedServer, client: ServerClient
) -> None:
    in_json = json_reply(image=base64_of(b"png"), threshold=0.3)
    server.script(
        "/image",
        Reply(200, b"png", PNG | {"X-Threshold": ""}),
        Reply(200, b"png", PNG | {"X-Threshold": " "}),
        json_reply(image=base64_of(b"png"), threshold=""),
        Reply(200, in_json.body, {**in_json.headers, "X-Threshold": ""}),
    )

    images = [pulled(client) for _ in range(4)]

    assert [image.threshold for image in images] == [None, None, None, 0.3]
    assert not any(image.problem for image in images)


@pytest.mark.parametrize(
    "disposition",
    [
        "attachment; filename*=UTF-8''a; filename*0=b",
        "attachment; filename*0*=UTF-8''a; filename*1=b; filename=c",
        "attachment; filename*=",
        "attachment; filename*=''''''",
        'attachment; filename="unclosed',
        ";;;=;=*;*=;*0*=;" * 100,
        "\x80\xff",
    ],
)
def test_an_image_comes_whatever_its_headers_say(
    server: ScriptedServer, client: ServerClient, disposition: str
) -> None:
    odd = {"Content-Disposition": disposition, "X-Threshold": "0.2", "ETag": '"' * 9}
    server.script("/image", Reply(200, b"png", PNG | odd))

    image = pulled(client)

    assert (image.content, image.threshold, image.problem) == (b"png", 0.2, None)
    assert image.file_name


def test_a_gzipped_answer_is_unpacked(server: ScriptedServer, client: ServerClient) -> None:
    server.script("/image", Reply(200, gzip.compress(b"png"), PNG | {"Content-Encoding": "gzip"}))

    assert pulled(client).content == b"png"
