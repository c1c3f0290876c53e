"""`demo`: the main job end to end on loopback, with photographs that come inside packages."""

import logging
import threading
import time
from pathlib import Path

import requests
from rich.console import Console

from worker.analyze import analyze_files, find_images
from worker.config import Config, DatabaseConfig, ServerConfig
from worker.database import read_records
from worker.demo_images import Sample, sample_images
from worker.demo_server import DemoServer, ImageQueue, create_app
from worker.errors import UsageError
from worker.results import table_rows
from worker.scheduler import run
from worker.signals import Alarm
from worker.terminal import show_table

logger = logging.getLogger(__name__)

FIRST_THRESHOLD, SECOND_THRESHOLD = 0.2, 0.5
TIME_LIMIT = 120.0  # seconds, after which a demo that has not ended is given up


def demo(config: Config, alarm: Alarm, console: Console, output: Path) -> bool:
    """Serve, poll, analyse, store and post the sample images, then show what came of it.

    The daemon is the very loop of `run`, in this thread. ``output``: folder for the JSON file and
    the pictures. Returns whether every image was recorded and received.
    """
    images, database = output / "images", output / "results.json"
    samples = sample_images()
    try:
        images.mkdir(parents=True, exist_ok=True)
        for sample in samples:
            (images / sample.name).write_bytes(sample.content)
    except OSError as error:
        raise UsageError(f"--output: cannot write to {output}: {error.strerror}") from error
    queue = ImageQueue(threshold=FIRST_THRESHOLD)
    with DemoServer(create_app(queue)) as server:
        config = config.model_copy(
            update={
                "server": ServerConfig(url=server.url, results_path="/results"),
                "database": DatabaseConfig(path=database),
            }
        )
        feeder = threading.Thread(target=_feed, args=(queue, server.url, samples, alarm))
        feeder.start()
        run(config, alarm)
        alarm.stop()
        feeder.join()
        received = {
            record["task_id"]: record
            for record in requests.get(f"{server.url}/results", timeout=10).json()
        }
    recorded = [r for r in read_records(database) if r.get("task_id") in received]
    for _ in analyze_files(find_images([images]), config, SECOND_THRESHOLD, output / "annotated"):
        pass
    show_table(
        "What the worker found",
        ("processed", "file", "threshold", "faces"),
        table_rows(recorded),
        console,
    )
    complete = len(received) == len(recorded) == len(samples)
    console.print(f"JSON file: {database} (python run_worker.py results --database {database})")
    console.print(f"Pictures with the faces drawn in: {output / 'annotated'}")
    console.print(
        f"The server handed out {len(samples)} images and received {len(received)} results."
    )
    return complete


def _feed(queue: ImageQueue, url: str, samples: list[Sample], alarm: Alarm) -> None:
    """Hand in half of the images, change the threshold, hand in the rest, stop when all is done."""
    half = len(samples) // 2
    for part, threshold in ((samples[:half], FIRST_THRESHOLD), (samples[half:], SECOND_THRESHOLD)):
        requests.put(f"{url}/threshold", json={"threshold": threshold}, timeout=10)
        logger.info("the server's threshold is now %g", threshold)
        for sample in part:
            queue.add(sample.content, sample.name, threshold=sample.threshold)
        done = queue.counts()["done"] + len(part)
        deadline = time.monotonic() + TIME_LIMIT
        while queue.counts()["done"] < done and not alarm.stop_requested:
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
    alarm.stop()
