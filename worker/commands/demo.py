"""`demo`: the main job end to end on loopback, with photographs that come inside packages."""

import argparse
import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from worker import PROGRAM
from worker.commands.common import EXIT_FAILED, add_configuration, configure, new_alarm
from worker.errors import UsageError

if TYPE_CHECKING:
    from worker.config import Config
    from worker.daemon.alarm import Alarm
    from worker.demo_server.image_queue import ImageQueue
    from worker.demo_server.sample_images import Sample
    from worker.record import Record

logger = logging.getLogger(__name__)

HELP = "a Flask server on loopback, photographs and the daemon at work"
EXAMPLE = "demo --output demo/"
FIRST_THRESHOLD, SECOND_THRESHOLD = 0.2, 0.5
TIME_LIMIT = 120.0  # seconds, after which a demo that has not ended is given up
COLUMNS = ("processed", "file", "threshold", "faces: emotions that reach the threshold")


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", type=Path, default=Path("demo"), metavar="DIR", help="default: demo"
    )
    words = "also save what is shown as SVG"
    parser.add_argument("--svg", type=Path, metavar="FILE", help=words)
    add_configuration(parser)


def run(options: argparse.Namespace) -> int:
    alarm, config = new_alarm(), configure(options)
    from rich.console import Console

    from worker.demo_server.sample_images import sample_images
    from worker.terminal import save_svg, show_table
    from worker.viewing.analyze import analyze_files, find_files
    from worker.viewing.results import table_rows

    output: Path = options.output
    samples = sample_images()
    write_samples(samples, output / "images")
    received, recorded = work(config, alarm, samples, output / "results.json")
    drawn = output / "annotated"
    for _ in analyze_files(find_files([output / "images"]), config, FIRST_THRESHOLD, drawn):
        pass
    svg = bool(options.svg)
    console = Console(record=svg, force_terminal=svg or None, width=110 if svg else None)
    show_table("What the worker found", COLUMNS, table_rows(recorded), console)
    console.print(
        f"The server handed out {len(samples)} images and received {received} results.\n"
        f"JSON file: {output}/results.json ({PROGRAM} results --database {output}/results.json)\n"
        f"Pictures with the faces drawn in: {drawn}",
        highlight=False,
        soft_wrap=True,
    )
    if svg:
        save_svg(console, options.svg, "make demo")
    return 0 if len(recorded) == received == len(samples) else EXIT_FAILED


def write_samples(samples: "list[Sample]", folder: Path) -> None:
    """Leave the photographs where a person can look at them. Raises UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for sample in samples:
            (folder / sample.name).write_bytes(sample.content)
    except OSError as error:
        raise UsageError(f"--output: cannot write to {folder}: {error.strerror}") from error


def work(
    config: "Config", alarm: "Alarm", samples: "list[Sample]", database: Path
) -> "tuple[int, list[Record]]":
    """Serve, poll, analyse, store and post the samples: the very loop of `run`, in this thread.

    Returns how many results the server received, and their records in the JSON file.
    """
    import requests

    from worker.analysis.analyst import Analysts
    from worker.config import DatabaseConfig, ServerConfig
    from worker.daemon.scheduler import run
    from worker.database.database import read_records
    from worker.demo_server.app import create_app
    from worker.demo_server.image_queue import MemoryQueue
    from worker.web import DemoServer

    queue = MemoryQueue(threshold=FIRST_THRESHOLD)
    with DemoServer(create_app(queue)) as server:
        sections = {
            "server": ServerConfig(url=server.url, results_path="/results"),
            "worker": config.worker.model_copy(update={"poll_interval": 1.0}),
            "database": DatabaseConfig(path=database),
        }
        config = config.model_copy(update=sections)
        feeder = threading.Thread(target=feed, args=(queue, server.url, samples, alarm))
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
    return len(received), recorded


def feed(queue: "ImageQueue", url: str, samples: "list[Sample]", alarm: "Alarm") -> None:
    """Hand in half of the images, change the threshold, hand in the rest, stop when all is done."""
    import requests

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
