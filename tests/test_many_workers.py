"""More than one machine, in small; benchmarks/many_workers.py is the same with nine processes."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.photographs import SAMPLES
from tests.redis_server import redis_server
from tests.shared_analysts import shared_analysts
from worker.config import PROJECT, load_config
from worker.daemon.alarm import Alarm
from worker.daemon.scheduler import run
from worker.database import read_records
from worker.demo_server.app import create_app
from worker.demo_server.image_queue import ImageQueue, MemoryQueue
from worker.demo_server.redis_queue import RedisQueue
from worker.web import WebServer

LEASE = 2.0


@pytest.fixture(params=["memory", "redis"])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ImageQueue]:
    if request.param == "memory":
        yield MemoryQueue(lease_seconds=LEASE)
    else:
        with redis_server(tmp_path) as server:
            yield RedisQueue(server.url, lease_seconds=LEASE)


def flags_of(folder: Path, name: str, url: str) -> list[str]:
    return [
        f"server.url={url}",
        "server.results_path=/results",
        f"worker.id={name}",
        "worker.poll_interval=0.1",
        f"database.path={folder / name}.json",
    ]


class Daemon:
    """A daemon that a thread runs: it has the network at hand sooner than a process of its own."""

    def __init__(self, flags: list[str]) -> None:
        self.alarm = Alarm()
        config = load_config(environment={}, flags=flags)
        self._thread = threading.Thread(target=run, args=(config, self.alarm, shared_analysts()))
        self._thread.start()

    def end(self) -> None:
        self.alarm.stop()
        self._thread.join()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_nothing_is_lost_or_doubled_while_workers_are_killed_stopped_and_join(
    queue: ImageQueue, tmp_path: Path
) -> None:
    """Given three daemons, when one is killed (-9), one stopped, and one joins, then each image is
    on the server once, in no file twice, and in at least one."""
    names, tasks = ["killed", "stopped", "stays", "late"], []

    def feed_until(condition: Callable[[], bool]) -> None:
        def fed() -> bool:
            if queue.counts()["waiting"] < len(names):
                tasks.append(queue.add(SAMPLES["astronaut_small.jpg"], "a.jpg", threshold=0.3))
            return condition()

        wait_until(fed)

    def has_brought(name: str) -> bool:
        return any(json.loads(record)["worker"] == name for record in queue.records())

    with ExitStack() as stack:
        # With the line in Redis, each daemon has a server of its own; else all have the same.
        count = 1 if isinstance(queue, MemoryQueue) else len(names)
        urls = [stack.enter_context(WebServer(create_app(queue))).url for _ in range(count)]
        flags = {n: flags_of(tmp_path, n, urls[i % count]) for i, n in enumerate(names)}
        words = [f"--set={flag}" for flag in flags["killed"]]
        killed = subprocess.Popen([sys.executable, PROJECT / "run_worker.py", "run", *words])
        stack.callback(killed.kill)
        stopped, stays = Daemon(flags["stopped"]), Daemon(flags["stays"])
        stack.callback(stopped.end)
        stack.callback(stays.end)

        feed_until(lambda: all(map(has_brought, names[:3])))
        killed.kill()
        stopped.alarm.stop()
        stack.callback(Daemon(flags["late"]).end)
        feed_until(lambda: has_brought("late"))
        wait_until(lambda: queue.counts()["done"] == len(tasks))
        killed.wait(timeout=10)
    files = [tmp_path / f"{name}.json" for name in names]
    recorded = [[record["task_id"] for record in read_records(path)] for path in files]
    assert Counter(json.loads(record)["task_id"] for record in queue.records()) == Counter(tasks)
    assert [len(file) - len(set(file)) for file in recorded] == [0] * 4
    assert {task for file in recorded for task in file} == set(tasks)
