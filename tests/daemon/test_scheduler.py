"""The daemon's loop in this process: schedule, drain, back-off, stop; all parts real."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from tinydb import TinyDB

from tests.photographs import SAMPLES
from tests.scripted_server import RawServer, Reply, ScriptedServer, hang, reset
from tests.shared_analysts import shared_analysts
from worker.config import Config, load_config
from worker.daemon.alarm import Alarm
from worker.daemon.scheduler import Metronome, run, run_once
from worker.demo_server.app import create_app
from worker.demo_server.image_queue import MemoryQueue
from worker.errors import DatabaseUnusable, RetryLater, ServerRefuses, UsageError
from worker.web import WebServer

PHOTOGRAPH = SAMPLES["astronaut_small.jpg"]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        scripted.script("/threshold", Reply(body=b"0.2"))
        yield scripted


def configure(folder: Path, url: str, *flags: str) -> Config:
    settings = [
        f"server.url={url}",
        f"database.path={folder / 'results.json'}",
        "worker.poll_interval=0.1",
        "worker.max_backoff=1",
        "server.timeout=1",
    ]
    return load_config(environment={}, flags=[*settings, *flags])


def photograph(task: str) -> Reply:
    return Reply(body=PHOTOGRAPH, headers={"Content-Type": "image/jpeg", "X-Task-Id": task})


def tasks(folder: Path) -> list[str]:
    return [document["task_id"] for document in TinyDB(folder / "results.json").table("images")]


class Daemon:
    """`run` in a thread, stopped at the end of a ``with``."""

    def __init__(self, config: Config) -> None:
        self.alarm = Alarm()
        self.problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(config,))

    def _run(self, config: Config) -> None:
        try:
            run(config, self.alarm, shared_analysts())
        except BaseException as error:  # noqa: BLE001 - shown by the test that waits for it
            self.problem = error

    def __enter__(self) -> "Daemon":
        self._thread.start()
        return self

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 40
        while not condition():
            assert self.problem is None, self.problem
            assert self._thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self.alarm.stop()
        self._thread.join()


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
    "a stall": Reply(delay=2),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_of_the_server_ends_the_daemon(
    server: ScriptedServer, tmp_path: Path, fault: str
) -> None:
    server.script("/image", FAULTS[fault], photograph("t1"), Reply(204))
    with Daemon(configure(tmp_path, server.url)) as daemon:
        daemon.until(lambda: (tmp_path / "results.json").exists() and tasks(tmp_path) == ["t1"])


@pytest.mark.parametrize("act", [reset, hang])
def test_torn_connections_do_not_end_it_either(
    tmp_path: Path, act: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with RawServer(act) as server, Daemon(configure(tmp_path, server.url)) as daemon:
        daemon.until(lambda: server.connections >= 2)
    warnings = [r for r in caplog.records if r.getMessage().startswith("polling:")]
    assert len([r for r in warnings if r.levelno == logging.WARNING]) == 1


def test_it_starts_with_a_server_that_is_not_there_and_uses_it_once_it_is(tmp_path: Path) -> None:
    with ScriptedServer() as reserved:
        port = reserved.port
    queue = MemoryQueue(threshold=0.2)
    given = queue.add(PHOTOGRAPH, "late.jpg")
    with Daemon(configure(tmp_path, f"http://127.0.0.1:{port}")) as daemon:
        time.sleep(0.5)
        with WebServer(create_app(queue), port=port):
            daemon.until(lambda: tasks(tmp_path) == [given])


def test_polls_that_find_nothing_are_an_interval_apart(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.script("/image", Reply(204))
    with Daemon(configure(tmp_path, server.url, "worker.poll_interval=0.5")) as daemon:
        daemon.until(lambda: len(server.requests) >= 1)
        started = time.monotonic()
        daemon.until(lambda: len(server.requests) >= 4)
        assert time.monotonic() - started > 1.4


def test_retry_after_is_obeyed_up_to_the_longest_back_off(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.script("/image", Reply(503, headers={"Retry-After": "3600"}), Reply(204))
    with Daemon(configure(tmp_path, server.url)) as daemon:
        daemon.until(lambda: len(server.requests) >= 1)
        started = time.monotonic()
        daemon.until(lambda: len(server.requests) >= 2)
        assert 0.9 < time.monotonic() - started < 20


def test_wrong_weights_end_it_at_once_and_a_locked_file_too(tmp_path: Path) -> None:
    config = configure(tmp_path, "http://127.0.0.1:1")
    with pytest.raises(UsageError, match="there is no file"):
        flag = "classification.weights=none.safetensors"
        run(configure(tmp_path, "http://127.0.0.1:1", flag), Alarm(), shared_analysts())
    with Daemon(config) as daemon:
        daemon.until(lambda: (tmp_path / "results.json").exists())
        with pytest.raises(DatabaseUnusable, match=r"results\.json"):
            run(config, Alarm(), shared_analysts())


def test_once_drains_posts_and_says_what_is_still_owed(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.script("/image", photograph("t1"), photograph("t2"), Reply(204))
    server.script("/results", Reply(201), Reply(503))
    config = configure(tmp_path, server.url, "server.results_path=/results")
    assert run_once(config, Alarm(), shared_analysts()) == 1
    assert sorted(tasks(tmp_path)) == ["t1", "t2"]
    server.script("/results", Reply(201))
    assert run_once(config, Alarm(), shared_analysts()) == 0


def test_once_ends_at_the_first_fault(server: ScriptedServer, tmp_path: Path) -> None:
    server.script("/image", Reply(500))
    with pytest.raises(RetryLater, match="500"):
        run_once(configure(tmp_path, server.url), Alarm(), shared_analysts())
    server.script("/image", Reply(403))
    with pytest.raises(ServerRefuses, match="token_file"):
        run_once(configure(tmp_path, server.url), Alarm(), shared_analysts())
    assert len(server.requests) == 2


def test_the_metronome_ticks_an_interval_after_each_wait_and_a_stop_ends_a_wait() -> None:
    alarm = Alarm()
    with Metronome(alarm, 0.5) as beat:
        for _ in range(3):
            started = time.monotonic()
            beat.wait()
            assert 0.4 < time.monotonic() - started < 0.95
            time.sleep(0.3)
        threading.Timer(0.05, alarm.stop).start()
        started = time.monotonic()
        beat.wait()
        assert time.monotonic() - started < 0.45
