"""What the reference server promises to workers and to those who feed it, over real HTTP."""

import hashlib
import json
import logging
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
import requests
from redis import Redis
from werkzeug.http import parse_options_header

from tests.redis_server import RedisServer, redis_server
from worker.demo_server.app import MAX_RECORD_BYTES, create_app, load_folder
from worker.demo_server.image_queue import ImageQueue, MemoryQueue
from worker.demo_server.redis_queue import LINE, RedisQueue
from worker.errors import UsageError
from worker.web import WebServer

LEASE = 60.0
MAX_IMAGE_BYTES = 10_000
WORKER_ACCEPT = {"Accept": "image/*, application/json"}
JPEG = b"\xff\xd8 the bytes of a picture"


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class RedisClock(Clock):
    """Makes each lease in a real Redis server older, as time would."""

    def __init__(self, redis: Redis) -> None:
        super().__init__()
        self._redis: Any = redis

    def advance(self, seconds: float) -> None:
        whole, part = self._redis.time()
        now = whole * 1_000_000 + part
        for task, until in self._redis.zrange(LINE, 0, -1, withscores=True):
            if until > now:
                self._redis.zadd(LINE, {task: until - seconds * 1_000_000})


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
def queue_and_clock(request: pytest.FixtureRequest) -> Iterator[tuple[ImageQueue, Clock]]:
    """Each test runs on each queue; the Redis one is empty and of its own."""
    if request.param == "memory":
        clock = Clock()
        yield MemoryQueue(threshold=0.35, lease_seconds=LEASE, clock=clock), clock
    else:
        url = request.getfixturevalue("broker").url
        with Redis.from_url(url) as redis:
            redis.flushall()
            yield RedisQueue(url, threshold=0.35, lease_seconds=LEASE), RedisClock(redis)


@pytest.fixture
def queue(queue_and_clock: tuple[ImageQueue, Clock]) -> ImageQueue:
    return queue_and_clock[0]


@pytest.fixture
def clock(queue_and_clock: tuple[ImageQueue, Clock]) -> Clock:
    return queue_and_clock[1]


@pytest.fixture
def url(queue: ImageQueue) -> Iterator[str]:
    with WebServer(create_app(queue, max_image_bytes=MAX_IMAGE_BYTES)) as server:
        yield server.url


def pull(url: str, **headers: str) -> requests.Response:
    return requests.get(f"{url}/image", headers=WORKER_ACCEPT | headers, timeout=10)


def pull_all(url: str) -> list[str]:
    """The names of all images that one worker gets before it hears that nothing waits."""
    names = []
    while (answer := pull(url)).status_code == 200:
        names.append(name_of(answer))
    return names


def name_of(answer: requests.Response) -> str:
    return parse_options_header(answer.headers["Content-Disposition"])[1]["filename"]


def record_of(task_id: str, **changes: Any) -> dict[str, Any]:
    face = {"face_id": 1, "anger": 0.94, "bbox": ["71", "48", "154", "131"]}
    record = {"file_name": "a.jpg", "threshold": 0.2, "faces": [face], "task_id": task_id}
    return {**record, "worker": "w1", "image_size": [225, 225], **changes}


def post(url: str, record: Any, **headers: str) -> requests.Response:
    key = {"Idempotency-Key": record["task_id"]} if isinstance(record, dict) else {}
    return requests.post(f"{url}/results", json=record, headers=key | headers, timeout=10)


def add(url: str, content: bytes, headers: Mapping[str, str | bytes]) -> requests.Response:
    sent = {"Content-Type": "image/jpeg", **headers}
    return requests.post(f"{url}/images", data=content, headers=sent, timeout=10)


def put_threshold(url: str, body: bytes) -> requests.Response:
    return requests.put(f"{url}/threshold", data=body, timeout=10)


def get(url: str) -> Any:
    return requests.get(url, timeout=10).json()


# --- handing out images


def test_an_image_comes_with_its_type_name_task_and_lease(queue: ImageQueue, url: str) -> None:
    # Given
    task_id = queue.add(JPEG, "angry.jpeg", "image/jpeg")
    # When
    answer = pull(url)
    # Then
    assert (answer.status_code, answer.content) == (200, JPEG)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert name_of(answer) == "angry.jpeg"
    assert answer.headers["X-Task-Id"] == task_id
    assert answer.headers["ETag"] == f'"{task_id}"'
    assert UUID(task_id).version == 4
    assert UUID(answer.headers["X-Lease-Id"]).version == 4
    assert "X-Threshold" not in answer.headers


def test_a_threshold_of_its_own_travels_with_an_image(queue: ImageQueue, url: str) -> None:
    queue.add(JPEG, "a.jpg", threshold=0.1)
    assert pull(url).headers["X-Threshold"] == "0.1"


def test_nothing_waiting_is_204(url: str) -> None:
    answer = pull(url)
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize(
    "name", ["naïve “smile” 😀.jpg", "семья.png", 'a "b" \\c; d=e.jpg', "%41.jpg"]
)
def test_any_file_name_arrives_as_it_is(queue: ImageQueue, url: str, name: str) -> None:
    queue.add(JPEG, name)
    assert name_of(pull(url)) == name


@pytest.mark.parametrize(
    ("name", "arrives"),
    [
        ("a\r\nX-Task-Id: evil\r\n.jpg", "aX-Task-Id: evil.jpg"),
        ("caf\udce9.jpg", "caf.jpg"),  # how Linux hands over a name that is not UTF-8
        ("\x00", "image"),
        ("ж" * 60_000 + ".jpg", "ж" * 251 + ".jpg"),
    ],
)
def test_a_name_that_fits_no_header_is_cut_down(
    queue: ImageQueue, url: str, name: str, arrives: str
) -> None:
    task_id = queue.add(JPEG, name)
    answer = pull(url)
    assert (name_of(answer), answer.headers["X-Task-Id"]) == (arrives, task_id)


def test_json_comes_to_those_who_prefer_it(queue: ImageQueue, url: str) -> None:
    # Given
    task_id = queue.add(b"\x00\xff", "семья.png", threshold=0.25)
    # When
    answer = pull(url, Accept="application/json, */*;q=0.5")
    # Then
    body = answer.json()
    assert UUID(body.pop("lease_id")).version == 4
    assert body == {
        "image": "AP8=",
        "file_name": "семья.png",
        "task_id": task_id,
        "threshold": 0.25,
    }


def test_json_names_no_threshold_where_the_image_has_none(queue: ImageQueue, url: str) -> None:
    queue.add(JPEG, "a.jpg")
    assert "threshold" not in pull(url, Accept="application/json").json()


# --- leases


def test_an_image_under_lease_is_given_to_nobody_else(
    queue: ImageQueue, url: str, clock: Clock
) -> None:
    # Given
    queue.add(JPEG, "a.jpg")
    pull(url)
    # When
    clock.advance(LEASE / 2)
    # Then
    assert pull(url).status_code == 204
    assert get(url) == {"waiting": 0, "leased": 1, "done": 0, "openapi": "/openapi.json"}


def test_an_image_whose_worker_died_is_given_out_again_under_a_new_lease(
    queue: ImageQueue, url: str, clock: Clock
) -> None:
    # Given
    queue.add(JPEG, "a.jpg")
    first = pull(url)
    # When
    clock.advance(LEASE)
    second = pull(url)
    # Then
    assert second.content == JPEG
    assert second.headers["X-Task-Id"] == first.headers["X-Task-Id"]
    assert second.headers["X-Lease-Id"] != first.headers["X-Lease-Id"]


def test_an_image_that_kills_its_workers_holds_up_no_other(
    queue: ImageQueue, url: str, clock: Clock
) -> None:
    # Given
    queue.add(JPEG, "deadly.jpg")
    queue.add(JPEG, "second.jpg")
    queue.add(JPEG, "third.jpg")
    assert name_of(pull(url)) == "deadly.jpg"
    # When
    clock.advance(LEASE)
    # Then
    assert pull_all(url) == ["second.jpg", "third.jpg", "deadly.jpg"]


def test_workers_at_once_never_get_the_same_image(queue: ImageQueue, url: str) -> None:
    # Given
    names = {f"{number}.jpg" for number in range(160)}
    for name in names:
        queue.add(JPEG, name)
    # When
    with ThreadPoolExecutor(8) as workers:
        pulled = [name for part in workers.map(pull_all, [url] * 8) for name in part]
    # Then
    assert len(pulled) == len(names)
    assert set(pulled) == names


def test_looking_without_asking_takes_no_lease(queue: ImageQueue, url: str) -> None:
    # Given
    queue.add(JPEG, "a.jpg")
    # When
    answer = requests.head(f"{url}/image", timeout=10)
    # Then
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")
    assert pull(url).status_code == 200


def test_a_worker_is_not_given_what_it_has_on_disk_but_others_are(
    queue: ImageQueue, url: str, clock: Clock
) -> None:
    # Given
    queue.add(JPEG, "known.jpg")
    etag = pull(url).headers["ETag"]
    queue.add(JPEG, "new.jpg")
    clock.advance(LEASE)
    # When
    answers = [pull(url, **{"If-None-Match": etag}) for _ in range(2)]
    # Then
    assert [answer.status_code for answer in answers] == [200, 204]
    assert name_of(answers[0]) == "new.jpg"
    assert pull_all(url) == ["known.jpg"]


# --- results


def test_a_result_is_kept_as_it_was_posted_and_its_image_is_done(
    queue: ImageQueue, url: str
) -> None:
    # Given
    queue.add(JPEG, "a.jpg")
    image = pull(url)
    record = record_of(image.headers["X-Task-Id"])
    # When
    answer = post(url, record, **{"X-Lease-Id": image.headers["X-Lease-Id"]})
    # Then
    assert (answer.status_code, answer.json()) == (201, {"task_id": record["task_id"]})
    assert [list(stored.items()) for stored in get(f"{url}/results")] == [list(record.items())]
    assert get(url) == {"waiting": 0, "leased": 0, "done": 1, "openapi": "/openapi.json"}


def test_results_are_listed_in_the_order_in_which_they_came(queue: ImageQueue, url: str) -> None:
    tasks = [queue.add(JPEG, "a.jpg") for _ in range(3)]
    for number in (2, 0, 1):
        post(url, record_of(tasks[number], worker=f"w{number}"))
    assert [record["worker"] for record in get(f"{url}/results")] == ["w2", "w0", "w1"]


def test_a_duplicate_is_answered_409_and_stored_once(queue: ImageQueue, url: str) -> None:
    # Given
    record = record_of(queue.add(JPEG, "a.jpg"))
    # When
    answers = [post(url, record), post(url, record | {"worker": "w2"})]
    # Then
    assert [answer.status_code for answer in answers] == [201, 409]
    assert get(f"{url}/results") == [record]


def test_of_duplicates_at_once_one_is_stored(queue: ImageQueue, url: str) -> None:
    record = record_of(queue.add(JPEG, "a.jpg"))
    with ThreadPoolExecutor(8) as workers:
        answers = workers.map(lambda _: post(url, record).status_code, range(24))
    assert sorted(answers) == [201] + [409] * 23
    assert get(f"{url}/results") == [record]


def test_the_key_may_be_the_hash_of_the_task(queue: ImageQueue, url: str) -> None:
    record = record_of(queue.add(JPEG, "a.jpg"))
    key = hashlib.sha256(record["task_id"].encode()).hexdigest()
    answers = [post(url, record, **{"Idempotency-Key": key}), post(url, record)]
    assert [answer.status_code for answer in answers] == [201, 409]


@pytest.mark.parametrize("handed_on", [False, True])
def test_a_late_result_counts_and_the_task_has_one_result(
    queue: ImageQueue, url: str, clock: Clock, handed_on: bool
) -> None:
    # Given
    record = record_of(queue.add(JPEG, "a.jpg"))
    slow = pull(url)
    clock.advance(LEASE)
    if handed_on:
        pull(url)
    # When
    late = post(url, record, **{"X-Lease-Id": slow.headers["X-Lease-Id"]})
    clock.advance(LEASE)
    # Then
    assert late.status_code == 201
    assert post(url, record | {"worker": "w2"}).status_code == 409
    assert get(f"{url}/results") == [record]
    assert pull(url).status_code == 204


def test_a_late_answer_that_is_no_record_leaves_the_lease_of_another_alone(
    queue: ImageQueue, url: str, clock: Clock
) -> None:
    # Given
    task_id = queue.add(JPEG, "a.jpg")
    slow = pull(url)
    clock.advance(LEASE)
    pull(url)
    # When
    late = post(url, {"task_id": task_id}, **{"X-Lease-Id": slow.headers["X-Lease-Id"]})
    # Then
    assert late.status_code == 422
    assert get(url)["leased"] == 1
    assert post(url, record_of(task_id)).status_code == 201


def test_an_error_record_ends_its_task(queue: ImageQueue, url: str) -> None:
    task_id = queue.add(b"<html>", "page.jpg")
    error = {"type": "not_an_image", "message": "it does not decode"}
    record = record_of(task_id, threshold=None, faces=[], error=error)
    assert post(url, record).status_code == 201
    assert pull(url).status_code == 204


def test_a_result_of_an_unknown_task_is_gone_for_good(url: str) -> None:
    assert post(url, record_of("6f1c7e0e-6c0a-4a8e-9c55-000000000000")).status_code == 410
    assert get(f"{url}/results") == []


@pytest.mark.parametrize(
    "changes",
    [
        {"file_name": None},
        {"worker": 7},
        {"threshold": "0.2"},
        {"threshold": True},
        {"threshold": 1.5},
        {"faces": None},
        {"faces": {}},
        {"faces": ["face"]},
        {"faces": [{"bbox": ["1", "2", "3", "4"]}]},
        {"faces": [{"face_id": 0, "bbox": ["1", "2", "3", "4"]}]},
        {"faces": [{"face_id": 1.5, "bbox": ["1", "2", "3", "4"]}]},
        {"faces": [{"face_id": True, "bbox": ["1", "2", "3", "4"]}]},
        {"faces": [{"face_id": 1, "bbox": [1, 2, 3, 4]}]},
        {"faces": [{"face_id": 1, "bbox": ["1", "2", "3"]}]},
    ],
)
def test_an_incomplete_record_is_refused_and_its_task_goes_on(
    queue: ImageQueue, url: str, changes: dict[str, Any]
) -> None:
    task_id = queue.add(JPEG, "a.jpg")
    assert post(url, record_of(task_id, **changes)).status_code == 422
    assert get(url)["waiting"] == 1


@pytest.mark.parametrize("key", ["file_name", "threshold", "faces", "task_id", "worker"])
def test_a_record_needs_its_keys(queue: ImageQueue, url: str, key: str) -> None:
    task_id = queue.add(JPEG, "a.jpg")
    record = record_of(task_id)
    del record[key]
    headers = {"Idempotency-Key": task_id}
    answer = requests.post(f"{url}/results", json=record, headers=headers, timeout=10)
    assert answer.status_code == 422


def test_a_key_that_is_not_the_task_is_refused(queue: ImageQueue, url: str) -> None:
    record = record_of(queue.add(JPEG, "a.jpg"))
    other = queue.add(JPEG, "b.jpg")
    assert post(url, record, **{"Idempotency-Key": other}).status_code == 422


def test_a_task_that_is_no_unicode_is_refused_like_any_other(url: str) -> None:
    answer = post(url, record_of("\ud800"), **{"Idempotency-Key": "6f1c7e0e"})
    assert answer.status_code == 422


def test_a_result_without_a_key_is_refused(queue: ImageQueue, url: str) -> None:
    record = record_of(queue.add(JPEG, "a.jpg"))
    answer = requests.post(f"{url}/results", json=record, timeout=10)
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["error"]


@pytest.mark.parametrize(
    "extra", [b"NaN", b"-Infinity", b"1e999", b"[" * 100_000, b"\xff", b"", b"9" * 5000]
)
def test_what_not_every_reader_can_parse_is_not_stored(
    queue: ImageQueue, url: str, extra: bytes
) -> None:
    # Given
    task_id = queue.add(JPEG, "a.jpg")
    body = json.dumps(record_of(task_id)).encode()[:-1] + b', "extra": ' + extra + b"}"
    # When
    headers = {"Idempotency-Key": task_id}
    answer = requests.post(f"{url}/results", data=body, headers=headers, timeout=10)
    # Then
    assert answer.status_code == 400
    assert get(f"{url}/results") == []


def test_no_depth_of_nesting_makes_the_list_of_results_unreadable(
    queue: ImageQueue, url: str
) -> None:
    """Given every depth about the limit, when those that are accepted are read, then it works."""
    accepted = 0
    for depth in range(900, 1000):
        task_id = queue.add(JPEG, "a.jpg")
        extra = "[" * depth + "]" * depth
        body = json.dumps(record_of(task_id))[:-1] + f', "extra": {extra}}}'
        headers = {"Idempotency-Key": task_id}
        answer = requests.post(f"{url}/results", data=body, headers=headers, timeout=10)
        assert answer.status_code in (201, 400)
        accepted += answer.status_code == 201
    answer = requests.get(f"{url}/results", timeout=10)
    assert 0 < accepted < 100
    assert (answer.status_code, answer.text.count('"task_id"')) == (200, accepted)


def test_a_record_of_a_megabyte_is_too_large(queue: ImageQueue, url: str) -> None:
    record = record_of(queue.add(JPEG, "a.jpg"), extra="x" * MAX_RECORD_BYTES)
    assert post(url, record).status_code == 413


# --- the threshold


def test_the_threshold_can_be_read_and_set_at_any_time(url: str) -> None:
    assert get(f"{url}/threshold") == {"threshold": 0.35}
    assert put_threshold(url, b'{"threshold": 0.5}').json() == {"threshold": 0.5}
    assert get(f"{url}/threshold") == {"threshold": 0.5}


@pytest.mark.parametrize("value", [b"0", b"1", b"0.0", b"1.0", b"1e-3"])
def test_zero_to_one_are_thresholds(url: str, value: bytes) -> None:
    assert put_threshold(url, b'{"threshold": ' + value + b"}").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"threshold": true}',
        b'{"threshold": NaN}',
        b'{"threshold": "0.5"}',
        b'{"threshold": null}',
        b'{"threshold": -0.1}',
        b'{"threshold": 7}',
        b"{}",
        b"[0.5]",
        b"threshold=0.5",
        b"",
    ],
)
def test_anything_else_is_not_and_changes_nothing(url: str, body: bytes) -> None:
    answer = put_threshold(url, body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert get(f"{url}/threshold") == {"threshold": 0.35}


# --- feeding images


def test_an_image_that_is_posted_waits_for_a_worker(url: str) -> None:
    # Given
    name = "семья.jpg".encode()  # as curl sends it
    # When
    answer = add(url, JPEG, {"X-File-Name": name, "X-Threshold": "0.15"})
    # Then
    image = pull(url)
    assert (answer.status_code, answer.json()) == (201, {"task_id": image.headers["X-Task-Id"]})
    assert (image.content, image.headers["Content-Type"]) == (JPEG, "image/jpeg")
    assert (name_of(image), image.headers["X-Threshold"]) == ("семья.jpg", "0.15")


def test_an_image_needs_no_name_and_no_known_type(url: str) -> None:
    assert add(url, JPEG, {"Content-Type": "application/octet-stream"}).status_code == 201
    image = pull(url)
    assert name_of(image) == "image"
    assert image.headers["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"", {}, 400),
        (JPEG, {"X-Threshold": "abc"}, 400),
        (JPEG, {"X-Threshold": "7"}, 400),
        (JPEG, {"X-Threshold": "NaN"}, 400),
        (JPEG, {"X-Threshold": "null"}, 400),
        (JPEG, {"X-Threshold": ""}, 400),
        (b"x" * (MAX_IMAGE_BYTES + 1), {}, 413),
        (JPEG, {"Content-Type": "text/html"}, 415),
    ],
)
def test_what_is_no_image_to_hand_out_is_refused(
    url: str, content: bytes, headers: dict[str, str], status: int
) -> None:
    answer = add(url, content, headers)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert pull(url).status_code == 204


def test_half_an_upload_is_not_handed_out(url: str) -> None:
    # Given
    address = urlsplit(url)
    head = f"POST /images HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 99\r\n"
    # When
    with socket.create_connection((address.hostname, address.port), timeout=10) as sender:
        sender.sendall(head.encode() + b"Content-Type: image/jpeg\r\n\r\nhalf")
        sender.shutdown(socket.SHUT_WR)
        answer = sender.recv(100)
    # Then
    assert answer == b""
    assert pull(url).status_code == 204


def test_a_folder_is_loaded_by_name_and_only_its_images(
    queue: ImageQueue, url: str, tmp_path: Path
) -> None:
    # Given
    names = ["b.PNG", "a.jpg", "c.tif", "d.webp", "notes.txt", "e.bmp", "f.jpeg", "g.tiff"]
    for name in names:
        (tmp_path / name).write_bytes(JPEG)
    (tmp_path / "folder.jpg").mkdir()
    # When
    load_folder(queue, tmp_path)
    # Then
    answers = [pull(url) for _ in range(7)]
    assert [(name_of(answer), answer.headers["Content-Type"]) for answer in answers] == [
        ("a.jpg", "image/jpeg"),
        ("b.PNG", "image/png"),
        ("c.tif", "image/tiff"),
        ("d.webp", "image/webp"),
        ("e.bmp", "image/bmp"),
        ("f.jpeg", "image/jpeg"),
        ("g.tiff", "image/tiff"),
    ]
    assert pull(url).status_code == 204


def test_a_folder_that_is_not_there_is_named(queue: ImageQueue, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no_such_folder"):
        load_folder(queue, tmp_path / "no_such_folder")


# --- the server


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("DELETE", "/image", 405),
        ("OPTIONS", "/results", 405),
        ("POST", "/threshold", 405),
    ],
)
def test_errors_are_json(url: str, method: str, path: str, status: int) -> None:
    answer = requests.request(method, url + path, timeout=10)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/json"
    assert set(answer.json()) == {"error"}


def test_with_a_token_nothing_is_open_to_others(queue: ImageQueue) -> None:
    # Given
    queue.add(JPEG, "a.jpg")
    with WebServer(create_app(queue, token="s3cret")) as server:
        # When
        tried = ["", "Bearer", "Bearer wrong", "Bearer s3cret2", "Basic s3cret", "Bearer é"]
        paths = ["/", "/image", "/threshold", "/results", "/openapi.json", "/nothing"]
        refused = [
            requests.get(server.url + path, headers={"Authorization": given}, timeout=10)
            for given in tried
            for path in paths
        ]
        welcome = pull(server.url, Authorization="Bearer s3cret")
    # Then
    assert {answer.status_code for answer in refused} == {401}
    assert {answer.headers["WWW-Authenticate"] for answer in refused} == {"Bearer"}
    assert (welcome.status_code, welcome.content) == (200, JPEG)


def test_an_empty_token_is_not_taken_for_none(queue: ImageQueue) -> None:
    with pytest.raises(UsageError, match="token"):
        create_app(queue, token="")


def test_a_port_that_is_taken_is_named(queue: ImageQueue) -> None:
    with WebServer(create_app(queue)) as server:
        port = urlsplit(server.url).port
        assert port is not None
        with pytest.raises(UsageError, match=str(port)):
            WebServer(create_app(queue), port=port)


def test_each_pull_and_each_result_is_one_line_of_the_log(
    queue: ImageQueue, caplog: pytest.LogCaptureFixture
) -> None:
    task_id = queue.add(JPEG, "a.jpg")
    with caplog.at_level(logging.INFO), WebServer(create_app(queue)) as server:
        for _ in range(2):
            pull(server.url, **{"X-Worker-Id": "w1"})
        post(server.url, record_of(task_id), **{"X-Worker-Id": "w1"})
    assert [record.getMessage() for record in caplog.records] == [
        f"a.jpg goes to w1: task {task_id}",
        f"1 faces of a.jpg from w1: task {task_id}",
    ]


def test_it_stops_when_told_to(queue: ImageQueue) -> None:
    with WebServer(create_app(queue)) as server:
        assert pull(server.url).status_code == 204
    with pytest.raises(requests.ConnectionError):
        pull(server.url)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:5000"},  # a name that was pointed at this machine
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},  # what `<img src>` of another page says
        {"Sec-Fetch-Site": "same-site"},  # a page on another port of this machine
    ],
)
def test_without_a_token_a_page_from_elsewhere_gets_and_changes_nothing(
    queue: ImageQueue, url: str, headers: dict[str, str]
) -> None:
    # Given
    task_id = queue.add(JPEG, "a.jpg")
    # When
    answers = [
        requests.get(f"{url}/image", headers=headers, timeout=10),
        requests.get(f"{url}/results", headers=headers, timeout=10),
        requests.put(f"{url}/threshold", headers=headers, data=b'{"threshold": 1}', timeout=10),
        post(url, record_of(task_id), **headers),
    ]
    # Then
    assert [answer.status_code for answer in answers] == [403] * 4
    assert get(url) == {"waiting": 1, "leased": 0, "done": 0, "openapi": "/openapi.json"}
    assert get(f"{url}/threshold") == {"threshold": 0.35}
