"""`demo`: the main job end to end on loopback, with photographs that come inside packages."""

import logging
import threading
import time
from pathlib import Path

import requests
from rich.console import Console

from worker.analysis.analyst import Analysts
from worker.config import Config, DatabaseConfig, ServerConfig
from worker.daemon.alarm import Alarm
from worker.daemon.scheduler import run
from worker.database.database import read_records
from worker.demo_server.app import create_app
from worker.demo_server.image_queue import ImageQueue, MemoryQueue
from worker.demo_server.sample_images import Sample, sample_images
from worker.errors import UsageError
from worker.terminal import show_table
from worker.viewing.analyze import analyze_files, find_files
from worker.viewing.results import table_rows
from worker.web import DemoServer

logger = logging.getLogger(__name__)

FIRST_THRESHOLD, SECOND_THRESHOLD = 0.2, 0.5
TIME_LIMIT = 120.0  # seconds, after which a demo that has not ended is given up


def demo(config: Config, alarm: Alarm, console: Console, output: Path) -> bool:
    """Serve, poll, analyse, store and post the sample images, then show what came of it.

    The daemon is the very loop of `run`, in this thread. ``output``: folder for the JSON file and
    the pictures. Returns whether every image was recorded and received. Raises UsageError where
    ``output`` cannot be written.
    """
    images, database = output / "images", output / "results.json"
    samples = sample_images()
    try:
        images.mkdir(parents=True, exist_ok=True)
        for sample in samples:
            (images / sample.name).write_bytes(sample.content)
    except OSError as error:
        raise UsageError(f"--output: cannot write to {output}: {error.strerror}") from error
    queue = MemoryQueue(threshold=FIRST_THRESHOLD)
    with DemoServer(create_app(queue)) as server:
        sections = {
            "server": ServerConfig(url=server.url, results_path="/results"),
            "worker": config.worker.model_copy(update={"poll_interval": 1.0}),
            "database": DatabaseConfig(path=database),
        }
        config = config.model_copy(update=sections)
        feeder = threading.Thread(target=_feed, args=(queue, server.url, samples, alarm))
        feeder.start()
        try:
            with Analysts(config) as analysts:
                run(config, alarm, analysts)
        finally:
            alarm.stop()
            feeder.join()
        received = requests.get(f"{server.url}/results", timeout=10).json()
    tasks = {record["task_id"] for record in received}
    recorded = [record for record in read_records(database) if record.get("task_id") in tasks]
    drawn = output / "annotated"
    for _ in analyze_files(find_files([images]), config, FIRST_THRESHOLD, drawn):
        pass
    columns = ("processed", "file", "threshold", "faces: emotions that reach the threshold")
    show_table("What the worker found", columns, table_rows(recorded), console)
    console.print(
        f"The server handed out {len(samples)} images and received {len(received)} results.\n"
        f"JSON file: {database} (python run_worker.py results --database {database})\n"
        f"Pictures with the faces drawn in: {drawn}",
        highlight=False,
        soft_wrap=True,
    )
    return len(recorded) == len(received) == len(samples)


def _feed(queue: ImageQueue, url: str, samples: list[Sample], alarm: Alarm) -> None:
    """Hand in half of the images, change the threshold, hand in the rest, stop when all is done."""
    half, deadline = len(samples) // 2, time.monotonic() + TIME_LIMIT
    for first, last, threshold in (
        (0, half, FIRST_THRESHOLD),
        (half, len(samples), SECOND_THRESHOLD),
    ):
        requests.put(f"{url}/threshold", json={"threshold": threshold}, timeout=10)
        logger.info("the server's threshold is now %g", threshold)
        for sample in samples[first:last]:
            queue.add(sample.content, sample.name, "image/jpeg", sample.threshold)
        while queue.counts()["done"] < last:
            if alarm.stop_requested or time.monotonic() > deadline:
                alarm.stop()
                return
            time.sleep(0.05)
    alarm.stop()
