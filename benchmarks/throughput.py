"""The daemon's speed and its needs, as ratios of things measured in one run; needs Linux.

    python benchmarks/throughput.py --json throughput.json
    python benchmarks/throughput.py --only memory --polls 100000 --images 20000
    python benchmarks/throughput.py --only fer --fer-python OTHER_VENV/bin/python

`daemon_over_bare`: images a second of the daemon that analyses one image at a time (a Flask server
in another process; pull, analyse, durable append, post), against a bare loop of the same pipeline
over the same bytes; `_100ms`: 600 kB images from a server that is 50 ms away, each way.
`two_cores_over_one`: the daemon on two cores, two images at a time, against one that has one core
(the server has the other). The server's own CPU time is taken out of the former: it runs on the
same two cores. `_mb`: resident memory, of a daemon with the default configuration; `idle`: polls
an empty server every second. `over_fer`: the PyPI package fer (tflite, Haar), installed apart.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np
from flask import Response
from processes import cpu_seconds, memory_mb
from rich.console import Console
from rich.table import Table

from worker.analysis.classification import Classifier
from worker.analysis.cropping import Picture
from worker.analysis.pipeline import Pipeline
from worker.config import PROJECT, Config
from worker.demo_server.app import create_app
from worker.demo_server.image_queue import MemoryQueue, QueuedImage
from worker.demo_server.sample_images import sample_images
from worker.files import weights_path
from worker.web import WebServer

FAR = 0.05  # seconds that a request, and its answer, is under way
WARM_UP = 20  # images that come before those that are timed
IDLE_SECONDS = 60
POLLS_AN_IMAGE = 5  # in the long run for memory; all but one of them find nothing
TIME_LIMIT = 3600

# The daemon, polling as fast as it can: worker.ini would not let it.
RESTLESS = """
import sys
from worker.analysis import Analysts
from worker.config import load_config
from worker.daemon.scheduler import run
from worker.daemon.alarm import Alarm
alarm = Alarm()
alarm.install()
config = load_config(flags=sys.argv[1:])
vars(config.worker)["poll_interval"] = 0.001
with Analysts(config) as analysts:
    run(config, alarm, analysts)
"""
# Times what another package does, whenever it is told to.
FER = """
import logging, statistics, sys, timeit
import cv2, numpy as np
logging.disable()
from fer.fer import FER
cv2.setNumThreads(1)
peer, picture = FER(), np.load(sys.argv[1])
face = np.zeros((1, 64, 64), np.float32)
peer._classify_emotions(face)
print(len(peer.detect_emotions(picture)), flush=True)
def median_ms(action, repeats):
    return statistics.median(timeit.repeat(action, number=1, repeat=repeats)) * 1e3
for line in sys.stdin:
    repeats = int(line)
    print(median_ms(lambda: peer.detect_emotions(picture), repeats),
          median_ms(lambda: peer._classify_emotions(face), 10 * repeats), flush=True)
"""


@dataclass
class TimedQueue(MemoryQueue):
    """``marks``: for each result when it came, and the server's CPU seconds until then; ``first``:
    when it was first asked; ``every``: of so many polls one gets an image."""

    every: int = 1
    marks: list[tuple[float, float]] = field(default_factory=list)
    first: float = 0.0
    polls: int = 0

    def __post_init__(self) -> None:
        super().__init__(threshold=0.3)

    def lease(self) -> QueuedImage | None:
        self.first = self.first or time.perf_counter()
        self.polls += 1
        return None if self.polls % self.every else super().lease()

    def finish(self, task_id: str, record: str) -> bool | None:
        stored = super().finish(task_id, record)
        self.marks.append((time.perf_counter(), time.process_time()))
        return stored


def serve(parent: Connection, delay: float, every: int) -> None:
    """The server's process: adds what the parent sends, or answers with all marks."""
    queue = TimedQueue(every=every)
    app = create_app(queue)
    # Each way, as a request comes and as its answer goes.
    app.before_request(lambda: time.sleep(delay))

    @app.after_request
    def far(response: Response) -> Response:
        time.sleep(delay)
        return response

    with WebServer(app) as server:
        parent.send(server.url)
        while (contents := parent.recv()) is not None:
            for number, content in enumerate(contents):
                queue.add(content, f"{number}.jpg", "image/jpeg")
            parent.send((len(queue.marks), queue.first, queue.polls))
        parent.send(queue.marks)


class Server:
    """A Flask server in a process of its own."""

    def __init__(self, delay: float = 0, every: int = 1, cores: set[int] | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, delay, every), daemon=True)
        self._process.start()
        self.url: str = self._pipe.recv()
        if cores and self._process.pid:
            for thread in Path(f"/proc/{self._process.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), cores)

    def add(self, contents: list[bytes]) -> tuple[int, float, int]:
        """Put images in line; number of results, time of the first request, and polls until now."""
        self._pipe.send(contents)
        told: tuple[int, float, int] = self._pipe.recv()
        return told

    def until_done(self, count: int) -> None:
        wait_until(lambda: self.add([])[0] >= count, every=0.2)

    def end(self) -> list[tuple[float, float]]:
        """The marks of all results."""
        self._pipe.send(None)
        marks: list[tuple[float, float]] = self._pipe.recv()
        self._process.join()
        return marks

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.is_alive():
            self.end()


def wait_until(condition: Callable[[], bool], every: float) -> None:
    deadline = time.monotonic() + TIME_LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("it takes too long; given up")
        time.sleep(every)


@contextmanager
def daemon(
    server: Server, *flags: str, cores: set[int] | None = None, code: str = ""
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A daemon that polls the server and posts to it; gives its process and its file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "results.json")
        settings = [f"server.url={server.url}", "server.results_path=/results", *flags]
        settings += [f"database.path={file}", "log.level=WARNING"]
        command = [str(PROJECT / "run_worker.py"), *[f"--set={each}" for each in settings]]
        process = subprocess.Popen(
            [sys.executable, *(["-c", code, *settings] if code else command)],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
        )
        try:
            yield process, file
        finally:
            process.terminate()
            if process.wait(timeout=60):
                raise SystemExit(f"the daemon ended with {process.returncode}")


def rate(
    images: list[bytes],
    count: int,
    *flags: str,
    delay: float = 0,
    daemon_cores: set[int] | None = None,
    server_cores: set[int] | None = None,
) -> float:
    """Images a second of a daemon. Where it shares its cores with the server, the time that the
    server computed is taken out."""
    with Server(delay, cores=server_cores) as server:
        server.add([images[number % len(images)] for number in range(WARM_UP + count)])
        with daemon(server, "worker.poll_interval=0.05", *flags, cores=daemon_cores):
            server.until_done(WARM_UP + count)
        marks = server.end()
    (start, cpu_start), (end, cpu_end) = marks[WARM_UP - 1], marks[WARM_UP + count - 1]
    shared = daemon_cores and not server_cores
    server_share = (cpu_end - cpu_start) / len(daemon_cores) if daemon_cores and shared else 0
    return count / (end - start - server_share)


def bare_rate(pipeline: Pipeline, images: list[bytes], count: int) -> float:
    for content in images:
        pipeline.analyze(content)
    started = time.perf_counter()
    for number in range(count):
        pipeline.analyze(images[number % len(images)])
    return count / (time.perf_counter() - started)


def scaled(content: bytes, longer_side: int) -> Picture:
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    scale = longer_side / max(picture.shape)
    return np.asarray(cv2.resize(picture, None, fx=scale, fy=scale), np.uint8)


def jpeg(picture: Picture, quality: int = 95) -> bytes:
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def of_size(content: bytes, longer_side: int, size: int) -> bytes:
    """The picture enlarged, with so much noise that its JPEG has about ``size`` bytes."""
    picture, noise = scaled(content, longer_side), 0.0
    random = np.random.default_rng(0).standard_normal(picture.shape, np.float32)
    while len(made := jpeg(np.clip(picture + noise * random, 0, 255).astype(np.uint8), 90)) < size:
        noise += 0.5
    return made


def six_faces() -> Picture:
    """300x259 pixels, six faces: the two portraits, three times each."""
    first, second, *_ = sample_images()
    heads = [
        scaled(first.content, 512)[20:285, 125:355],
        scaled(second.content, 600)[60:430, 90:410],
    ]
    cells = [np.asarray(cv2.resize(head, (100, 130)), np.uint8) for head in heads]
    rows = np.vstack([np.hstack([cells[0], cells[1], cells[0]]), np.hstack([cells[1], *cells])])
    return np.ascontiguousarray(rows[:259])


def small_images(longer_side: int = 300) -> list[bytes]:
    return [jpeg(scaled(sample.content, longer_side)) for sample in sample_images()]


def measure_speed(rounds: int, count: int) -> dict[str, float]:
    pipeline, small = Pipeline(Config()), small_images()
    large = [of_size(sample.content, 1920, 600_000) for sample in sample_images()]
    one, all_cores = ["worker.parallel=1"], set(sorted(os.sched_getaffinity(0))[:2])
    first, *rest = sorted(all_cores)
    ratios: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, images, each, delay in (
            ("daemon_over_bare", small, count, 0.0),
            ("daemon_over_bare_100ms", large, count // 3, FAR),
        ):
            bare = bare_rate(pipeline, images, each)
            running = rate(images, each, *one, delay=delay)
            ratios.setdefault(name, []).append(running / bare)
        single = rate(small, count, *one, daemon_cores={first}, server_cores=set(rest) or {first})
        double = rate(small, count, "worker.parallel=2", daemon_cores=all_cores)
        ratios.setdefault("two_cores_over_one", []).append(double / single)
    print(json.dumps(ratios), file=sys.stderr)
    return {name: round(statistics.median(each), 3) for name, each in ratios.items()}


def measure_start(rounds: int) -> dict[str, float]:
    requests, records = [], []
    for _ in range(rounds):
        with Server() as server:
            server.add(small_images()[:1])
            started = time.perf_counter()
            with daemon(server) as (_, file):
                wait_until(partial(has_record, file), every=0.002)
                records.append(time.perf_counter() - started)
                requests.append(server.add([])[1] - started)
                server.until_done(1)
    return {
        "first_request_s": round(statistics.median(requests), 3),
        "first_record_s": round(statistics.median(records), 3),
    }


def has_record(file: Path) -> bool:
    return file.exists() and b"task_id" in file.read_bytes()


def measure_memory(count: int) -> dict[str, float]:
    huge = jpeg(scaled(sample_images()[0].content, 3464))  # 12 megapixels
    small = small_images()
    with Server() as server, daemon(server) as (process, _):
        server.add([small[number % len(small)] for number in range(count)])
        server.until_done(count)
        steady = memory_mb(process.pid)
        server.add([huge])
        server.until_done(count + 1)
        most = memory_mb(process.pid, "VmHWM")
    return {"rss_mb": round(steady, 1), "rss_12mp_mb": round(most, 1)}


def measure_idle(seconds: float) -> dict[str, float]:
    with Server() as server, daemon(server, "worker.poll_interval=1") as (process, _):
        server.add(small_images()[:1])
        server.until_done(1)
        time.sleep(5)
        before, started = cpu_seconds(process.pid), time.perf_counter()
        time.sleep(seconds)
        used = cpu_seconds(process.pid) - before
        return {"idle_cpu_percent": round(100 * used / (time.perf_counter() - started), 2)}


def measure_growth(polls: int, images: int) -> dict[str, float]:
    """The memory of a daemon after all these, against that after its first 1,000 images; these are
    of 100 pixels, to be done sooner."""
    small = small_images(100)
    every = max(1, polls // images)
    with Server(every=every) as server, daemon(server, code=RESTLESS) as (process, _):
        samples = []
        for goal in (min(1000, images // 2), images):
            done = server.add([])[0]
            server.add([small[number % len(small)] for number in range(goal - done)])
            server.until_done(goal)
            samples.append(memory_mb(process.pid))
        polled = server.add([])[2]
    print(f"{polled} polls, {images} images: {samples} MB", file=sys.stderr)
    return {"rss_growth": round(samples[1] / samples[0], 3)}


def median_ms(action: Callable[[], object], repeats: int) -> float:
    return statistics.median(timeit.repeat(action, number=1, repeat=repeats)) * 1e3


def measure_networks(rounds: int) -> dict[str, float]:
    """How much more than our networks custom_net takes for one face, one thread; in turn."""
    names = ("custom_net", "emotion_net", "emotion_net_small")
    networks = [Classifier(weights_path(name)) for name in names]
    rows = []
    for _ in range(rounds):
        row = []
        for network in networks:
            crop = np.zeros((1, network.input_size, network.input_size), np.uint8)
            row.append(median_ms(lambda: network.classify(crop), 200))  # noqa: B023
        rows.append(row)
    print(f"ms a face ({', '.join(names)}): {rows}", file=sys.stderr)
    return {
        "custom_net_over_emotion_net": round(statistics.median(r[0] / r[1] for r in rows), 3),
        "custom_net_over_small": round(statistics.median(r[0] / r[2] for r in rows), 3),
    }


def measure_fer(python: str, rounds: int) -> dict[str, float]:
    picture = six_faces()
    pipeline = Pipeline(Config())
    small = Classifier(weights_path("emotion_net_small"))
    face = np.random.default_rng(0).integers(0, 255, (1, small.input_size, small.input_size))
    crop = face.astype(np.uint8)

    def ours() -> int:
        return len(pipeline.find_faces(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))))

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "six.npy")
        np.save(file, picture)
        with subprocess.Popen(
            [python, "-c", FER, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as peer:
            assert peer.stdin is not None and peer.stdout is not None
            print(f"faces: ours {ours()}, fer {peer.stdout.readline().strip()}", file=sys.stderr)
            figures: list[list[float]] = []
            for _ in range(rounds):
                own = median_ms(ours, 20), median_ms(lambda: small.classify(crop), 200)
                peer.stdin.write("20\n")
                peer.stdin.flush()
                theirs = [float(word) for word in peer.stdout.readline().split()]
                figures.append([*own, *theirs])
            peer.stdin.close()
    print(f"ms (ours, ours one face, fer, fer one face): {figures}", file=sys.stderr)
    return {
        "pipeline_over_fer": round(statistics.median(row[0] / row[2] for row in figures), 3),
        "one_face_over_fer": round(statistics.median(row[1] / row[3] for row in figures), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", metavar="PART", help="speed start memory idle networks growth fer"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=300, help="images timed in each run")
    parser.add_argument("--polls", type=int, default=100_000, help="of the run for growth")
    parser.add_argument("--images", type=int, default=20_000, help="of the run for growth")
    parser.add_argument("--fer-python", metavar="FILE", help="an interpreter that has fer")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")
    options = parser.parse_args()
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "speed": lambda: measure_speed(options.rounds, options.count),
        "start": lambda: measure_start(2 * options.rounds - 1),
        "memory": lambda: measure_memory(options.count),
        "idle": lambda: measure_idle(IDLE_SECONDS),
        "networks": lambda: measure_networks(options.rounds),
        "growth": lambda: measure_growth(options.polls, options.images),
    }
    if options.fer_python:
        parts["fer"] = lambda: measure_fer(options.fer_python, options.rounds)
    figures: dict[str, float] = {}
    for part in options.only or parts:
        figures |= parts[part]()
    table = Table("what", "measured", title="The daemon")
    for name, figure in figures.items():
        table.add_row(name, str(figure))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
