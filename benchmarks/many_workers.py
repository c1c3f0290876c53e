"""Many daemons against one reference server: is anything lost, doubled, or slower than with one?

First one daemon works alone, then many share a queue. They share the same cores, the server has
another one to itself. When half of the images are done, the first daemon is killed (-9), a little
later the second gets SIGTERM and one more joins. With `--queue` the line is in Redis, and two
servers hand out of it.

    python benchmarks/many_workers.py --json many.json
    python benchmarks/many_workers.py --queue redis://127.0.0.1:6379/9

Exits with 1 where an image is not on the server once, is in one file twice or in none, where a
daemon ends otherwise than it was told to, or where the late one gets no image. Linux only.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from redis import Redis

from worker.config import PROJECT
from worker.database import read_records
from worker.demo_server.app import create_app
from worker.demo_server.image_queue import ImageQueue, MemoryQueue
from worker.demo_server.redis_queue import RedisQueue
from worker.demo_server.sample_images import sample_images
from worker.web import WebServer

TIME_LIMIT = 600.0  # seconds, for one part
SAMPLES = [sample for sample in sample_images() if "small" in sample.name]


class Workers:
    """Daemons on ``cores``, each with its own file in ``folder``; numbered from 1."""

    def __init__(self, folder: Path, urls: list[str], cores: set[int]) -> None:
        self._folder, self._urls, self._cores = folder, urls, cores
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        number = len(self.processes) + 1
        settings = {
            "server.url": self._urls[number % len(self._urls)],
            "server.results_path": "/results",
            "worker.id": f"w{number}",
            "worker.poll_interval": 0.2,
            "database.path": self._folder / f"results-{number}.json",
        }
        flags = [f"--set={key}={value}" for key, value in settings.items()]
        with (self._folder / f"{number}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, str(PROJECT / "run_worker.py"), "run", *flags],
                cwd=self._folder,
                stderr=log,
            )
        os.sched_setaffinity(process.pid, self._cores)
        self.processes.append(process)

    def names(self) -> set[str]:
        return {f"w{number}" for number, _ in enumerate(self.processes, 1)}

    def send(self, number: int, what: signal.Signals) -> None:
        self.processes[number - 1].send_signal(what)

    def end(self) -> list[int]:
        """Stop those that still run; how each ended."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        return [process.wait(timeout=60) for process in self.processes]

    def files(self) -> list[list[str]]:
        """The task ids in each file."""
        paths = [
            self._folder / f"results-{number}.json" for number, _ in enumerate(self.processes, 1)
        ]
        return [[record["task_id"] for record in read_records(path)] for path in paths]


def add(queue: ImageQueue, count: int) -> list[str]:
    """Put images into the queue; their task ids."""
    return [
        queue.add(sample.content, sample.name, "image/jpeg", 0.3)
        for sample in (SAMPLES[number % len(SAMPLES)] for number in range(count))
    ]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIME_LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("it takes too long; given up")
        time.sleep(0.02)


def warm_up(queue: ImageQueue, workers: Workers) -> list[str]:
    """Give them images until each has brought a result."""
    given: list[str] = []

    def all_brought_one() -> bool:
        if queue.counts()["waiting"] < len(workers.processes):
            given.extend(add(queue, 1))
        return {json.loads(record)["worker"] for record in queue.records()} == workers.names()

    wait_until(all_brought_one)
    wait_until(lambda: queue.counts()["done"] == len(given))
    return given


def measure(queue: ImageQueue, count: int, images: int, cores: set[int], share: float) -> Any:
    """Run ``count`` daemons on ``images``; the rate counts until ``share`` of them is done.

    With a share below 1, one is killed then, one is stopped, and one more joins.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = 1 if isinstance(queue, MemoryQueue) else 2
        urls = [stack.enter_context(WebServer(create_app(queue))).url for _ in range(servers)]
        workers = Workers(folder, urls, cores)
        stack.callback(workers.end)
        for _ in range(count):
            workers.start()
        warm = warm_up(queue, workers)

        def done(part: float) -> bool:
            return queue.counts()["done"] - len(warm) >= images * part

        given = add(queue, images)
        started = time.perf_counter()
        wait_until(lambda: done(share))
        records = queue.records()[len(warm) :]
        rate = len(records) / (time.perf_counter() - started)
        shares = Counter(json.loads(record)["worker"] for record in records)
        if share < 1:
            workers.send(1, signal.SIGKILL)
            wait_until(lambda: done(share + 0.1))
            workers.send(2, signal.SIGTERM)
            workers.start()
        wait_until(lambda: done(1))
        codes = workers.end()
        files = workers.files()
    tasks = [json.loads(record)["task_id"] for record in queue.records()]
    by_worker = Counter(json.loads(record)["worker"] for record in queue.records())
    in_files = Counter(task for file in files for task in set(file))
    mean = sum(shares.values()) / count
    names = [f"w{number}" for number in range(1, count + 1)]
    return {
        "images_per_second": round(rate, 2),
        "smallest_share": round(min(shares[name] for name in names) / mean, 3),
        "largest_share": round(max(shares.values()) / mean, 3),
        "given": len(warm) + images,
        "on_server": len(tasks),
        "not_on_server_once": len(set(tasks) ^ {*warm, *given}) + len(tasks) - len(set(tasks)),
        "twice_in_a_file": sum(len(file) - len(set(file)) for file in files),
        "in_no_file": len({*warm, *given} - in_files.keys()),
        "in_two_files": sum(number > 1 for number in in_files.values()),
        "late_worker_got": by_worker[f"w{count + 1}"],
        "exit_codes": codes,
    }


def sound(figures: Any, expected_codes: list[int]) -> bool:
    """Whether nothing was lost or doubled, and each daemon ended as it was told to."""
    wrong = ("not_on_server_once", "twice_in_a_file", "in_no_file")
    return not any(figures[key] for key in wrong) and figures["exit_codes"] == expected_codes


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--alone", type=int, default=400, help="images for one daemon; 0: skip it")
    parser.add_argument("--queue", metavar="URL", help="an empty Redis database, instead of memory")
    parser.add_argument("--lease", type=float, default=10, metavar="SECONDS")
    parser.add_argument("--json", type=Path, metavar="OUT")
    options = parser.parse_args()
    *rest, last = sorted(os.sched_getaffinity(0))
    cores = set(rest or [last])
    os.sched_setaffinity(0, {last})

    def queue() -> ImageQueue:
        if options.queue is None:
            return MemoryQueue(lease_seconds=options.lease)
        Redis.from_url(options.queue).flushdb()
        return RedisQueue(options.queue, lease_seconds=options.lease)

    if options.queue and Redis.from_url(options.queue).dbsize():
        parser.error(f"{options.queue} is not empty")
    many = options.workers
    figures = {"many": measure(queue(), many, options.images, cores, share=0.5)}
    good = sound(figures["many"], [-signal.SIGKILL, *[0] * many])
    good = good and figures["many"]["late_worker_got"] > 0
    if options.alone:
        figures["one"] = measure(queue(), 1, options.alone, cores, share=1)
        rates = [figures[name]["images_per_second"] for name in ("many", "one")]
        figures["many_over_one"] = round(rates[0] / rates[1], 3)
        good = good and sound(figures["one"], [0])
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
