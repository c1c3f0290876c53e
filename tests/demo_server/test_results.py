"""What the reference server promises to workers that post: one result a task, and only records."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.demo_server.requests_to_it import (
    JPEG,
    LEASE,
    Clock,
    get,
    post,
    pull,
    record_of,
)
from worker.demo_server.app import MAX_RECORD_BYTES
from worker.demo_server.image_queue import ImageQueue


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
    assert answer.status_code == 422
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
