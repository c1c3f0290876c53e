"""A Flask server on loopback, photographs and the daemon at work.

example: emotion-worker demo --output demo/
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from worker import PROGRAM
from worker.commands.common import add_configuration, configure, new_alarm

THRESHOLDS = (0.2, 0.5)  # of the first half of the images, and of the others


def add_flags(parser: argparse.ArgumentParser) -> None:
    words, default = "default: demo", Path("demo")
    parser.add_argument("--output", type=Path, default=default, metavar="DIR", help=words)
    add_configuration(parser)


def run(options: argparse.Namespace) -> int:
    alarm, config = new_alarm(), configure(options)
    from worker.analysis import Analysts
    from worker.analysis.sources import find_files
    from worker.config import DatabaseConfig, ServerConfig
    from worker.daemon.scheduler import run_once
    from worker.database import read_records
    from worker.demo_server.app import create_app
    from worker.demo_server.image_queue import MemoryQueue
    from worker.demo_server.sample_images import sample_images
    from worker.files import replace_file
    from worker.terminal import safe
    from worker.viewing.analyze import analyze_files
    from worker.viewing.table import print_records
    from worker.web import WebServer

    images, drawn = options.output / "images", options.output / "annotated"
    database, samples = options.output / "results.json", sample_images()
    for sample in samples:
        replace_file(images / sample.name, sample.content)
    queue, half = MemoryQueue(), len(samples) // 2
    with Analysts(config) as analysts, WebServer(create_app(queue)) as server:
        config = replace(
            config,
            server=ServerConfig(url=server.url, results_path="/results"),
            database=DatabaseConfig(path=database),
        )
        for threshold, part in zip(THRESHOLDS, (samples[:half], samples[half:]), strict=True):
            queue.threshold = threshold
            for sample in part:
                queue.add(sample.content, sample.name, "image/jpeg", sample.threshold)
            run_once(config, alarm, analysts)
    tasks = {json.loads(record)["task_id"] for record in queue.records()}
    recorded = [record for record in read_records(database) if record.get("task_id") in tasks]
    for _ in analyze_files(find_files([images]).sources, config, THRESHOLDS[0], drawn):
        pass
    print_records(recorded)
    print(
        f"The server handed out {len(samples)} images and received {len(tasks)} results.\n"
        f"JSON file: {safe(database)} ({PROGRAM} results --database {safe(database)})\n"
        f"Pictures with the faces drawn in: {safe(drawn)}"
    )
    return 0 if len(recorded) == len(tasks) == len(samples) else 1
