"""The daemon's loop in this process: schedule, drain, back-off, stop; all parts real."""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from tinydb import TinyDB

from tests.daemon.played import (
    HANG,
    PlayedAnalysts,
    asked,
    configure,
    image,
    records,
    tasks,
)
from tests.daemon.running import Daemon
from tests.photographs import SAMPLES
from tests.scripted_server import RawServer, Reply, ScriptedServer, hang, reset
from worker.daemon.alarm import Alarm
from worker.daemon.scheduler import run
from worker.database import Database
from worker.demo_server.app import create_app
from worker.demo_server.image_queue import MemoryQueue
from worker.errors import DatabaseUnusable, UsageError
from worker.web import WebServer

PHOTOGRAPH = SAMPLES["astronaut_small.jpg"]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        scripted.script("/threshold", Reply(body=b"0.2"))
        yield scripted


def test_images_are_drained_analysed_stored_and_posted(tmp_path: Path) -> None:
    queue = MemoryQueue(threshold=0.2)
    given = [queue.add(SAMPLES[name], name) for name in SAMPLES]
    with WebServer(create_app(queue)) as server:
        config = configure(tmp_path, server.url, "server.results_path=/results")
        with Daemon(config) as daemon:
            daemon.until(lambda: queue.counts()["done"] == len(given))
        received = requests.get(f"{server.url}/results", timeout=5).json()
    assert sorted(tasks(tmp_path)) == sorted(given)
    stored = [dict(document) for document in TinyDB(tmp_path / "results.json").table("images")]
    assert sorted(received, key=str) == sorted(stored, key=str)
    faces = {record["file_name"]: record["faces"] for record in stored}
    assert [len(faces[name]) for name in ("astronaut.jpg", "coffee.jpg", "group.jpg")] == [1, 0, 6]
    assert faces["astronaut.jpg"][0]["happiness"] > 0.7


def test_a_changed_threshold_holds_for_the_next_image(tmp_path: Path) -> None:
    queue = MemoryQueue(threshold=0.01)
    with WebServer(create_app(queue)) as server:
        config = configure(tmp_path, server.url, "server.results_path=/results")
        with Daemon(config) as daemon:
            for threshold in (0.01, 0.99):
                requests.put(f"{server.url}/threshold", json={"threshold": threshold}, timeout=5)
                queue.add(SAMPLES["grace_hopper_small.jpg"], "hopper.jpg")
                daemon.until(lambda: queue.counts()["waiting"] + queue.counts()["leased"] == 0)
    low, high = TinyDB(tmp_path / "results.json").table("images")
    assert (low["threshold"], high["threshold"]) == (0.01, 0.99)
    assert len(low["faces"][0]) > len(high["faces"][0])
    assert len(high["faces"][0]) == 3


FAULTS: dict[str, Any] = {
    "429": Reply(429, headers={"Retry-After": "0"}),
    "500": Reply(500),
    "a redirect": Reply(302, headers={"Location": "http://127.0.0.1:1/"}),
    "401": Reply(401),
    "404": Reply(404),
    "a proxy's page with status 200": Reply(body=b"<html>", headers={"Content-Type": "text/html"}),
    "JSON that names no task": Reply(body=b"{}", headers={"Content-Type": "application/json"}),
}


class ImpatientAlarm(Alarm):
    """Does not wait at all, but notes for how long it was to wait; stops after ``most`` waits."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._most = most

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        if len(self.waits) == self._most:
            self.stop()


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_of_the_server_ends_the_daemon(
    server: ScriptedServer, tmp_path: Path, fault: str
) -> None:
    server.script("/image", FAULTS[fault], image("t1"), Reply(204))
    alarm = ImpatientAlarm(3)
    run(configure(tmp_path, server.url), alarm, PlayedAnalysts())
    assert "t1" in tasks(tmp_path)
    assert all(0 <= seconds <= 1 for seconds in alarm.waits)


@pytest.mark.parametrize("act", [reset, hang])
def test_torn_connections_do_not_end_it_either(
    tmp_path: Path, act: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with RawServer(act) as server:
        run(
            configure(tmp_path, server.url, "server.timeout=0.2"),
            ImpatientAlarm(3),
            PlayedAnalysts(),
        )
        assert server.connections == 3
    warnings = [r for r in caplog.records if r.getMessage().startswith("polling:")]
    assert len([r for r in warnings if r.levelno == logging.WARNING]) == 1


def test_it_starts_with_a_server_that_is_not_there_and_uses_it_once_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ScriptedServer() as reserved:
        port = reserved.port
    queue = MemoryQueue(threshold=0.2)
    given = queue.add(PHOTOGRAPH, "late.jpg")
    config = configure(tmp_path, f"http://127.0.0.1:{port}")
    with Daemon(config, PlayedAnalysts()) as daemon:
        daemon.until(lambda: "next try in" in caplog.text)
        with WebServer(create_app(queue), port=port):
            daemon.until(lambda: tasks(tmp_path) == [given])


def test_polls_that_find_nothing_are_an_interval_apart(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.script("/image", Reply(204))
    alarm = ImpatientAlarm(4)
    run(configure(tmp_path, server.url, "worker.poll_interval=7"), alarm, PlayedAnalysts())
    assert len(server.requests) == 4
    assert alarm.waits == [14] * 4  # until the tick, which comes after 7 s


def test_retry_after_is_obeyed_up_to_the_longest_back_off(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.script(
        "/image",
        Reply(503, headers={"Retry-After": "40"}),
        Reply(429, headers={"Retry-After": "3600"}),
    )
    alarm = ImpatientAlarm(2)
    run(configure(tmp_path, server.url, "worker.max_backoff=60"), alarm, PlayedAnalysts())
    assert alarm.waits == [40, 60]


def test_wrong_weights_end_it_at_once_and_a_locked_file_too(tmp_path: Path) -> None:
    config = configure(tmp_path, "http://127.0.0.1:1")
    with pytest.raises(UsageError, match="there is no file"):
        flag = "classification.weights=none"
        run(configure(tmp_path, "http://127.0.0.1:1", flag), Alarm(), PlayedAnalysts())
    with Database(config.database.path), pytest.raises(DatabaseUnusable, match=r"results\.json"):
        run(config, Alarm(), PlayedAnalysts())


def test_an_image_that_is_kept_when_it_is_stopped_is_recorded_then(
    server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.script("/image", image("t1"), Reply(204))
    server.script("/threshold", Reply(500))
    flag = "server.fallback_threshold=0.25"
    run(configure(tmp_path, server.url, flag), ImpatientAlarm(2), PlayedAnalysts())
    assert [record["threshold"] for record in records(tmp_path)] == [0.25]
    assert "task=t1 was kept until the end" in caplog.text
    assert len(asked(server, "/image")) == 1


class TestTheTick:
    def test_comes_an_interval_after_each_wait_began_which_is_no_longer_than_two(self) -> None:
        class Waiting(Alarm):
            ticked = threading.Event()

            def wait(self, seconds: float) -> None:
                assert seconds == 0.4
                started = time.monotonic()
                assert self.ticked.wait(HANG)
                assert time.monotonic() - started > 0.15
                self.ticked.clear()

            def tick(self) -> None:
                self.ticked.set()

        alarm = Waiting()
        for _ in range(3):
            alarm.wait_for_tick(0.2)
        alarm.close()

    def test_is_not_waited_for_after_a_stop(self) -> None:
        alarm = Alarm()
        threading.Timer(0.05, alarm.stop).start()
        alarm.wait_for_tick(3600)
        assert alarm.stop_requested
        alarm.close()
