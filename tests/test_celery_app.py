"""Celery's way to the same records: real workers, a real broker, kills, outages, bad tasks."""

import base64
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import numpy as np
import pytest
from celery import Celery
from celery.result import AsyncResult
from redis import Redis

from tests import faults
from tests.photographs import SAMPLES, encode
from tests.redis_server import RedisServer, redis_server
from tests.scripted_server import Reply, Request, ScriptedServer
from tests.shared_analysts import shared_analysts
from worker import celery_app
from worker.analysis import Analysts
from worker.config import PROJECT
from worker.database import Database, read_records

PHOTOGRAPH = SAMPLES["astronaut_small.jpg"]
SCALING_PAGE = (PROJECT / "docs/scaling.md").read_text()
TINY = encode(".png", np.full((32, 32), 128, np.uint8))


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


# --- one task, in this process


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """The server of worker.ini; the task's process is this one, and its file is new."""
    with ScriptedServer() as server:
        # To load takes time: all tests have the same child.
        monkeypatch.setattr(celery_app, "Analysts", lambda _: shared_analysts())
        monkeypatch.setattr(Analysts, "close", lambda _: None)
        monkeypatch.setenv("WORKER_SERVER_URL", server.url)
        monkeypatch.setenv("WORKER_SERVER_MAX_IMAGE_BYTES", "100000")
        monkeypatch.setenv("WORKER_DATABASE_PATH", str(tmp_path / "results.json"))
        yield server
        celery_app.close_recorder()


def analyze(*arguments: Any, **named: Any) -> AsyncResult[Any]:
    return celery_app.analyze.apply(arguments, named, task_id="t1")


def test_the_result_is_the_record_and_the_file_has_it(
    server: ScriptedServer, tmp_path: Path
) -> None:
    record = analyze(text(PHOTOGRAPH), 0.2, "astronaut.jpg").get()
    assert (record["file_name"], record["threshold"], record["task_id"]) == (
        "astronaut.jpg",
        0.2,
        "t1",
    )
    assert record["faces"][0]["happiness"] >= 0.2
    assert list(read_records(tmp_path / "results-0.json")) == [record]


def test_a_task_that_was_recorded_gives_that_record_again(
    server: ScriptedServer, tmp_path: Path
) -> None:
    first = analyze(text(TINY), 0.2).get()
    again = analyze("http://nowhere.invalid/gone.png", 0.9).get()
    assert again == first
    assert list(read_records(tmp_path / "results-0.json")) == [first]


def test_threads_of_one_process_record_each_task_once(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `celery worker -P threads` has them: from the first tasks on, also two of one id."""
    monkeypatch.setattr(celery_app.analyze, "max_retries", 0)
    ids, together = ["a", "a", "a", "b", "c", "d"], Barrier(6)

    def one(task_id: str) -> Any:
        together.wait()
        return analyze(text(TINY), 0.2, None, task_id).get()

    with ThreadPoolExecutor(6) as threads:
        given = list(threads.map(one, ids))
    records = list(read_records(tmp_path / "results-0.json"))
    assert sorted(record["task_id"] for record in records) == ["a", "b", "c", "d"]
    assert all(record in records for record in given)


def test_an_image_of_the_own_server_is_downloaded(server: ScriptedServer) -> None:
    server.script("/a.png", Reply(503), Reply(200, TINY, {"Content-Type": "image/png"}))
    record = analyze(f"{server.url}/a.png", None, "a.png", "mine").get()
    assert record["image_size"] == [32, 32]
    assert (record["task_id"], record["threshold"]) == ("mine", 0.5)
    assert len(server.requests) == 2  # the 503 was tried again


@pytest.mark.parametrize(
    ("image", "threshold", "kind"),
    [
        (None, 0.2, "missing_key"),
        (7, 0.2, "missing_key"),
        ("", 0.2, "empty"),
        ("***", 0.2, "bad_base64"),
        (text(b"no picture"), 0.2, "not_an_image"),
        (text(bytes(100_001)), 0.2, "too_large"),
        (text(TINY), 7, "bad_threshold"),
        ("http://127.0.0.2:9/a.png", 0.2, "refused_url"),
        ("file:///etc/passwd", 0.2, "bad_base64"),
        ("{server}/missing.png", 0.2, "dead_url"),
    ],
)
def test_an_image_at_fault_gives_an_error_record_at_once(
    server: ScriptedServer, tmp_path: Path, image: Any, threshold: Any, kind: str
) -> None:
    if isinstance(image, str):
        image = image.replace("{server}", server.url)
    record = analyze(image, threshold).get()
    assert (record["error"]["type"], record["faces"]) == (kind, [])
    assert list(read_records(tmp_path / "results-0.json")) == [record]
    assert len(server.requests) <= 1


def test_a_url_that_stays_unreachable_is_given_up(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celery_app.analyze, "max_retries", 2)
    server.script("/a.png", Reply(500))
    record = analyze(f"{server.url}/a.png", 0.2).get()
    assert record["error"]["type"] == "unreachable"
    assert "status 500" in record["error"]["message"]
    assert len(server.requests) == 3
    assert list(read_records(tmp_path / "results-0.json")) == [record]


def test_a_file_that_another_worker_uses_fails_the_task_and_says_so(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celery_app.analyze, "max_retries", 1)
    with Database(tmp_path / "results-0.json"):
        result = analyze(text(TINY), 0.2)
    assert result.failed()
    assert "in use by another worker" in str(result.result)


# --- real workers


class Sender(Celery):  # type: ignore[misc]
    """What a Flask server has: the URLs, and no part of the worker."""

    def send(self, task_id: str, *arguments: Any) -> AsyncResult[Any]:
        return self.send_task("emotion.analyze", arguments, task_id=task_id)


class Node:
    """`celery worker` with one process, in a folder of its own."""

    def __init__(self, folder: Path, broker: str, backend: str, **settings: str) -> None:
        folder.mkdir(exist_ok=True)
        self.file, self._log = folder / "results-0.json", folder / "log"
        urls = {"CELERY_BROKER_URL": broker, "CELERY_RESULT_BACKEND": backend}
        own = {
            "PYTHONPATH": f"{PROJECT}{os.pathsep}{faults.FOLDER}",
            "WORKER_WORKER_ID": folder.name,
        }
        command = "-A tests.celery_in_a_hurry worker -c 1 --without-mingle --without-gossip -l INFO"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", *command.split(), "-n", folder.name],
                cwd=folder,
                env=os.environ | urls | own | settings,
                stderr=log,
                stdout=log,
                start_new_session=True,
            )

    def log(self) -> str:
        return self._log.read_text()

    def records(self) -> list[dict[str, Any]]:
        """What is in its file; a torn end that a kill may have left is passed over."""
        return list(read_records(self.file)) if self.file.exists() else []

    def kill(self) -> None:
        """All of its processes, as when the machine loses its power."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=10)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=60)


@contextmanager
def nodes(*started: Node) -> Iterator[None]:
    try:
        yield
    finally:
        for node in started:
            if node.process.poll() is None:
                node.kill()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "broker").mkdir()
    with redis_server(tmp_path / "broker") as server:
        yield server


def wait_until(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_five_hundred_images_two_workers_a_kill_and_an_outage_of_the_broker(
    broker: RedisServer, tmp_path: Path
) -> None:
    """Given 502 tasks, when the worker that has one in hand is killed, and the broker goes away for
    a second while the other has one in hand, too, then each task has one result, and none is in any
    file twice. Both are busy then, since Kombu takes a message from Redis in two steps: an outage
    between the two would lose it."""
    asked: list[str] = []
    held, broker_is_back = Event(), Event()

    def slow_at_first(request: Request) -> Reply:
        asked.append(request.headers["X-Worker-Id"])
        return Reply(200, TINY, {"Content-Type": "image/png"}, delay=60 if len(asked) == 1 else 0)

    def after_the_outage(request: Request) -> Reply:
        held.set()
        assert broker_is_back.wait(60)
        return Reply(200, TINY, {"Content-Type": "image/png"})

    expected = ["slow", *(f"t{i}" for i in range(100)), "held", *(f"t{i}" for i in range(100, 500))]
    with ScriptedServer() as server:
        server.script("/slow", slow_at_first)
        server.script("/held", after_the_outage)
        urls = (broker.url, broker.url)
        names = ("first", "second")
        pair = {n: Node(tmp_path / n, *urls, WORKER_SERVER_URL=server.url) for n in names}
        with nodes(*pair.values()):
            sender = Sender(broker=broker.url, backend=broker.url)
            images = {"slow": f"{server.url}/slow", "held": f"{server.url}/held"}
            results = [sender.send(task, images.get(task, text(TINY)), 0.2) for task in expected]
            wait_until(lambda: asked)
            other = pair[next(name for name in names if name != asked[0])]
            assert held.wait(60)
            pair[asked[0]].kill()  # in the middle of the task
            broker.stop()
            time.sleep(1)
            broker.start()
            broker_is_back.set()
            records = [result.get(timeout=90) for result in results]
            assert other.stop() == 0
    assert [record["task_id"] for record in records] == expected
    assert [record["image_size"] for record in records] == [[32, 32]] * 502
    assert len(asked) == 2  # handed on
    files = [node.records() for node in pair.values()]
    for file in files:
        assert max(Counter(record["task_id"] for record in file).values(), default=1) == 1
    assert {record["task_id"] for file in files for record in file} == set(expected)


def test_flask_snippet_an_image_that_kills_its_process_and_a_backend_that_is_full(
    broker: RedisServer, tmp_path: Path
) -> None:
    """Given the documentation's Flask server, then it answers with a record. Given an image that
    kills, then it becomes an error record and Celery's process goes on. Given a full backend, then
    the record is in the file and the log says why; with room again, its result can be had."""
    (tmp_path / "backend").mkdir()
    with redis_server(tmp_path / "backend") as backend, Redis.from_url(backend.url) as redis:
        node = Node(tmp_path / "node", broker.url, backend.url)
        with nodes(node):
            sender = Sender(broker=broker.url, backend=backend.url)
            [snippet] = re.findall(r"```python\n(.*?)```", SCALING_PAGE, re.DOTALL)
            for url in (broker.url, backend.url):
                snippet = snippet.replace("redis://127.0.0.1:6379/0", url, 1)
            page: dict[str, Any] = {"__name__": "page"}
            exec(snippet, page)
            shown = page["app"].test_client().post("/emotions", data=PHOTOGRAPH).get_json()
            assert (len(shown["faces"]), shown["threshold"]) == (1, 0.5)

            record = sender.send("deadly", text(faults.KILLS), 0.2).get(timeout=60)
            assert record["error"]["type"] == "crashed"
            assert "Process 'ForkPoolWorker" not in node.log()

            redis.config_set("maxmemory", "1")
            Sender(broker=broker.url).send("full", text(TINY), 0.2)
            wait_until(lambda: len(node.records()) == 3)
            # First the result, then the failure to store it: the backend takes neither.
            wait_until(lambda: "Pool callback raised" in node.log())
            assert "'maxmemory'" in node.log()
            redis.config_set("maxmemory", "0")
            assert sender.send("full", text(TINY), 0.2).get(timeout=60) == node.records()[2]
            assert len(node.records()) == 3
            assert node.stop() == 0


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CELERY_BROKER_URL", "rediss-typo://x", "rediss-typo"),
        ("WORKER_CLASSIFICATION_WEIGHTS", "missing.onnx", "missing.onnx"),
    ],
)
def test_a_worker_that_could_analyse_nothing_does_not_start(
    tmp_path: Path, name: str, value: str, said: str
) -> None:
    urls = {"CELERY_BROKER_URL": "redis://127.0.0.1:9/0", "CELERY_RESULT_BACKEND": ""}
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker.celery_app", "worker", "-c", "1"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PROJECT)} | urls | {name: value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broker_that_is_not_there_is_named_to_the_sender() -> None:
    with pytest.raises(Exception, match=r"127\.0\.0\.1:9") as caught:
        Sender(broker="redis://127.0.0.1:9/0").send("t1", text(TINY))
    assert type(caught.value).__name__ == "OperationalError"
