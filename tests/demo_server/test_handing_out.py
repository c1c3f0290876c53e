"""What the reference server promises to workers that pull: images, leases, the threshold."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
import requests

from tests.demo_server.requests_to_it import (
    JPEG,
    LEASE,
    Clock,
    get,
    name_of,
    pull,
    pull_all,
    put_threshold,
)
from worker.demo_server.image_queue import ImageQueue


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


def test_looking_without_asking_takes_no_lease(queue: ImageQueue, url: str) -> None:
    # Given
    queue.add(JPEG, "a.jpg")
    # When
    answer = requests.head(f"{url}/image", timeout=10)
    # Then
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")
    assert pull(url).status_code == 200
