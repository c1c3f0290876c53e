"""The page at `/` of `[metrics] address`: the daemon's state at a glance."""

import math
from collections.abc import Iterator

import pytest
import requests

from tests.daemon.played import Clock
from worker.daemon.metrics import Metrics, serve
from worker.record import Record

LOCAL = "127.0.0.1:0"


def record(name: str, *faces: Record, **more: object) -> Record:
    common = {"file_name": name, "threshold": 0.2, "processed_at": "2026-11-28T12:00:00.000Z"}
    return common | {"faces": list(faces)} | more


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("emotion_net", math.inf, Clock())


@pytest.fixture
def url(metrics: Metrics) -> Iterator[str]:
    with serve(LOCAL, metrics) as url:
        yield url


def page(url: str, **headers: str) -> requests.Response:
    return requests.get(f"{url}/", headers=headers, timeout=30)


def test_it_says_how_the_last_poll_went_and_what_is_owed(metrics: Metrics, url: str) -> None:
    metrics.polled("unreachable")
    metrics.figures["backoff_seconds"].labels("polling").set(12.5)
    metrics.figures["images_in_hand"].set(2)
    metrics.figures["posts_pending"].set(7)
    shown = page(url).text
    for row in (
        ("last poll", "unreachable, 0 s ago"),
        ("last good answer", "none yet"),
        ("back-off", "12.5 s"),
        ("images in hand", "2"),
        ("results to post", "7"),
        ("network", "emotion_net"),
    ):
        assert "<td>{}</td><td>{}</td>".format(*row) in shown


def test_it_shows_the_emotions_of_the_last_ten_records_the_latest_first(
    metrics: Metrics, url: str
) -> None:
    assert "none yet" in page(url).text
    for number in range(12):
        metrics.recorded(record(f"{number}.jpg", {"face_id": 1, "fear": 0.4, "anger": 0.5}))
    shown = page(url).text
    assert shown.count(".jpg") == 10
    assert shown.index("11.jpg") < shown.index("2.jpg")
    assert "anger 0.50, fear 0.40" in shown


def test_faces_below_the_threshold_no_face_and_errors_are_told_apart(
    metrics: Metrics, url: str
) -> None:
    metrics.recorded(record("a", {"face_id": 1}))
    metrics.recorded(record("b"))
    metrics.recorded(record("c", error={"type": "empty", "message": "it has no bytes"}))
    shown = page(url).text
    assert all(
        f"<td>{name}</td><td>{said}</td>" in shown
        for name, said in (
            ("a", "below threshold"),
            ("b", "no face"),
            ("c", "error: it has no bytes"),
        )
    )


def test_what_a_server_names_is_text_and_nothing_is_fetched_or_run(
    metrics: Metrics, url: str
) -> None:
    metrics.recorded(record("<img src=x onerror=alert(1)>\udc80"))
    answer = page(url)
    assert "<img" not in answer.text
    assert "<script" not in answer.text
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}], ids=["Host", "Origin"]
)
def test_another_page_reads_nothing_but_programs_get_their_figures(
    url: str, headers: dict[str, str]
) -> None:
    assert page(url, **headers).status_code == 403
    for path in ("/metrics", "/healthz"):
        assert requests.get(url + path, headers=headers, timeout=30).ok
