"""One poll against a real server and a real file; only the analysis itself is played."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tinydb import TinyDB

from tests.scripted_server import Reply, ScriptedServer
from worker.client.server_client import ServerClient
from worker.config import ServerConfig
from worker.daemon.poller import Found, Poller
from worker.database.database import Database
from worker.errors import ImageLost, RetryLater
from worker.record import Analysis, Box, Face

NOTHING = Reply(204)
THRESHOLD = Reply(body=b'{"threshold": 0.3}', headers={"Content-Type": "application/json"})
ANALYSIS = Analysis(100, 80, (Face(Box(1, 2, 31, 32), {"neutral": 0.25, "anger": 0.75}),), 12.34)


def image(task: str, **headers: str) -> Reply:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return Reply(body=b"pixels", headers={"Content-Type": "image/png", "X-Task-Id": task, **named})


class Bench:
    """A poller, its scripted server and its file."""

    def __init__(self, server: ScriptedServer, file: Path, *, owe: bool = False) -> None:
        self.server, self.file = server, file
        self.analysed: list[bytes] = []
        self.outcome: Analysis | ImageLost = ANALYSIS
        self.stored = 0
        self.database = Database(file, owe=owe)
        server.script("/threshold", THRESHOLD)
        self.poller = Poller(
            ServerClient(ServerConfig(url=server.url, timeout=2), "w1"),
            self.database,
            self._analyze,
            worker="w1",
            network="custom_net",
            stored=self._on_stored,
        )

    def _analyze(self, content: bytes) -> Analysis:
        self.analysed.append(content)
        if isinstance(self.outcome, ImageLost):
            raise self.outcome
        return self.outcome

    def _on_stored(self) -> None:
        self.stored += 1

    def records(self) -> list[dict[str, Any]]:
        return [dict(document) for document in TinyDB(self.file).table("images")]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted


@pytest.fixture
def bench(server: ScriptedServer, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(server, tmp_path / "results.json")
    yield made
    made.database.close()


def test_an_image_is_analysed_and_its_record_is_in_the_file(bench: Bench) -> None:
    bench.server.script("/image", image("t1", X_File_Name="angry.png"), NOTHING)
    assert bench.poller.step() is Found.IMAGE
    (record,) = bench.records()
    assert record["file_name"] == "angry.png"
    assert record["threshold"] == 0.3
    assert record["faces"] == [
        {"face_id": 1, "anger": 0.75, "bbox": ["1", "2", "31", "32"], "confidence": 1.0}
    ]
    assert (record["task_id"], record["worker"]) == ("t1", "w1")
    assert bench.stored == 1
    assert bench.poller.step() is Found.NOTHING


def test_the_threshold_is_asked_for_each_image_that_brings_none(bench: Bench) -> None:
    bench.server.script("/image", image("t1"), image("t2", X_Threshold="0.9"), image("t3"), NOTHING)
    bench.server.script("/threshold", THRESHOLD, Reply(body=b"0.7"))
    for _ in range(3):
        bench.poller.step()
    assert [record["threshold"] for record in bench.records()] == [0.3, 0.9, 0.7]


def test_without_a_threshold_nothing_is_guessed_and_the_image_stays_with_the_server(
    bench: Bench,
) -> None:
    bench.server.script("/image", image("t1"))
    bench.server.script("/threshold", Reply(body=b"abc"), THRESHOLD)
    with pytest.raises(RetryLater, match="no number from 0 to 1"):
        bench.poller.step()
    assert bench.analysed == []
    assert bench.records() == []
    assert bench.poller.step() is Found.IMAGE
    assert len(bench.records()) == 1


def test_an_image_that_can_not_be_analysed_gives_an_error_record(bench: Bench) -> None:
    bench.outcome = ImageLost("not_an_image", "its 6 bytes do not decode")
    bench.server.script("/image", image("t1"), NOTHING)
    bench.poller.step()
    (record,) = bench.records()
    assert record["faces"] == []
    assert record["error"] == {"type": "not_an_image", "message": "its 6 bytes do not decode"}
    assert bench.poller.step() is Found.NOTHING


def test_what_is_wrong_with_an_image_before_it_is_analysed_is_recorded_too(bench: Bench) -> None:
    body = json.dumps({"task_id": "t1", "image": "not base64!"}).encode()
    bench.server.script("/image", Reply(body=body, headers={"Content-Type": "application/json"}))
    assert bench.poller.step() is Found.IMAGE
    assert [record["error"]["type"] for record in bench.records()] == ["bad_base64"]
    assert bench.analysed == []


def test_a_recorded_task_is_never_analysed_again_not_even_after_a_restart(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.script("/image", image("t1"))
    first = Bench(server, tmp_path / "results.json")
    first.poller.step()
    first.database.close()
    second = Bench(server, tmp_path / "results.json")
    for _ in range(3):
        second.poller.step()
    assert second.analysed == []
    assert len(second.records()) == 1
    second.database.close()


def test_a_server_that_always_shows_its_latest_picture_is_polled_once_an_interval(
    bench: Bench,
) -> None:
    bench.server.script("/image", *[image("t1")] * 4, image("t2"))
    assert bench.poller.step() is Found.IMAGE
    assert [bench.poller.step() for _ in range(3)] == [Found.NOTHING] * 3
    assert bench.poller.step() is Found.IMAGE
    assert [record["task_id"] for record in bench.records()] == ["t1", "t2"]


def test_the_etag_of_a_task_recorded_before_a_restart_goes_back_as_well(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.script("/image", image("t1", ETag='"e1"'))
    for _ in range(2):
        bench = Bench(server, tmp_path / "results.json")
        bench.poller.step()
        bench.poller.step()
        bench.database.close()
    sent = [r.headers.get("If-None-Match") for r in server.requests if r.path == "/image"]
    assert sent == [None, '"e1"', None, '"e1"']


def test_recorded_tasks_that_alternate_do_not_keep_the_worker_busy_and_are_hinted_at_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [image("t1"), image("t2")] * 10
    bench.server.script("/image", *answers)
    found = [bench.poller.step() for _ in range(20)]
    assert found.count(Found.NOTHING) >= 5
    assert len(bench.records()) == 2
    hints = [r for r in caplog.records if "keep coming back" in r.getMessage()]
    assert len(hints) == 1


def test_an_etag_goes_back_only_once_its_record_is_on_disk(bench: Bench) -> None:
    bench.server.script("/image", image("t1", ETag='"e1"'))
    bench.server.script("/threshold", Reply(500), THRESHOLD)
    with pytest.raises(RetryLater):
        bench.poller.step()
    bench.poller.step()
    bench.poller.step()
    sent = [r.headers.get("If-None-Match") for r in bench.server.requests if r.path == "/image"]
    assert sent == [None, None, '"e1"']


def test_a_record_that_could_not_be_stored_is_stored_before_anything_new_is_pulled(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.server.script("/image", image("t1"), NOTHING)
    append, full = bench.database.append, [True]

    def fill_up(record: Any, *, lease_id: str | None = None) -> bool:
        if full:
            raise RetryLater("no space left on the disk")
        return append(record, lease_id=lease_id)

    monkeypatch.setattr(bench.database, "append", fill_up)
    for _ in range(2):
        with pytest.raises(RetryLater, match="no space left"):
            bench.poller.step()
    assert len(bench.analysed) == 1
    assert bench.poller.held_tasks == ["t1"]
    full.clear()
    assert bench.poller.step() is Found.IMAGE
    assert bench.poller.held_tasks == []
    assert [record["task_id"] for record in bench.records()] == ["t1"]
    assert len([r for r in bench.server.requests if r.path == "/image"]) == 1


def test_an_image_that_ended_the_process_twice_is_recorded_as_an_error(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.script("/image", image("t1"))

    class ProcessEndsError(BaseException):
        pass

    def crash(content: bytes) -> Analysis:
        raise ProcessEndsError

    for _ in range(2):
        bench = Bench(server, tmp_path / "results.json")
        bench.poller._analyze = crash
        with pytest.raises(ProcessEndsError):
            bench.poller.step()
        bench.database.close()
    last = Bench(server, tmp_path / "results.json")
    assert last.poller.step() is Found.IMAGE
    assert [record["error"]["type"] for record in last.records()] == ["crashed"]
    assert last.analysed == []
    last.database.close()


def test_an_image_that_another_poll_has_in_hand_is_not_analysed_twice(bench: Bench) -> None:
    """Given a server that offers an image until its result came, when two polls get it at once."""
    bench.server.script("/image", image("t1", X_Lease_Id="l1"), image("t1", X_Lease_Id="l2"))
    begun, go_on = threading.Event(), threading.Event()

    def analyze(content: bytes) -> Analysis:
        bench.analysed.append(content)
        begun.set()
        assert go_on.wait(10)
        return ANALYSIS

    bench.poller._analyze = analyze
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(bench.poller.step)
        assert begun.wait(10)
        second = threads.submit(bench.poller.step)
        until_asked(bench, 2)
        go_on.set()
        assert (first.result(), second.result()) == (Found.IMAGE, Found.NOTHING)
    assert len(bench.analysed) == 1
    assert [record["task_id"] for record in bench.records()] == ["t1"]


def test_an_image_that_may_have_ended_the_process_is_analysed_alone(bench: Bench) -> None:
    names = [f"t{number}" for number in range(8)]
    bench.server.script("/image", *[replace(image(name), body=name.encode()) for name in names])
    bench.database.begin("t3")
    analysing: set[bytes] = set()
    together: list[set[bytes]] = []

    def analyze(content: bytes) -> Analysis:
        analysing.add(content)
        time.sleep(0.1)
        together.append(set(analysing))
        time.sleep(0.1)
        analysing.remove(content)
        return ANALYSIS

    bench.poller._analyze = analyze
    bench.poller._free = threading.Semaphore(4)
    with ThreadPoolExecutor(4) as threads:
        for found in [threads.submit(bench.poller.step) for _ in names]:
            assert found.result() is Found.IMAGE
    assert [tasks for tasks in together if b"t3" in tasks] == [{b"t3"}]
    assert any(len(tasks) > 1 for tasks in together)
    assert sorted(record["task_id"] for record in bench.records()) == names


def until_asked(bench: Bench, times: int) -> None:
    deadline = time.monotonic() + 10
    while sum(request.path == "/image" for request in bench.server.requests) < times:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_log_has_one_line_an_image(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench.server.script("/image", image("t1", X_File_Name="angry.png"))
    bench.poller.step()
    assert [r.getMessage() for r in caplog.records if r.name == "worker.daemon.poller"] == [
        "task=t1 file=angry.png faces=1 ms=12.3 outcome=stored"
    ]
