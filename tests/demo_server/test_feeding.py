"""What the reference server promises to those who feed and run it."""

import logging
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.demo_server.requests_to_it import (
    JPEG,
    get,
    name_of,
    post,
    pull,
    record_of,
)
from worker.demo_server.app import create_app, load_folder
from worker.demo_server.image_queue import ImageQueue
from worker.errors import UsageError
from worker.web import WebServer


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
