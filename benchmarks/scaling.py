"""What docs/scaling.md counts with: the analysis alone, the server alone, Celery's own share.

    python benchmarks/scaling.py --queue redis://127.0.0.1:6379/9 --json scaling.json

`analyze_ms`: one image by one thread, from bytes to faces, by the width of the picture. `pairs`:
images given out and results taken in a second by one server that does nothing else, asked by four
clients in the same process, for both queues. `celery_tasks`: tasks a second of one Celery process
on images so small that next to nothing is left to analyse. Needs Redis, with an empty database.
"""

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import requests
from celery import Celery
from redis import Redis

from worker.analysis.pipeline import Pipeline
from worker.config import Config
from worker.demo_server.app import create_app
from worker.demo_server.image_queue import ImageQueue, MemoryQueue
from worker.demo_server.redis_queue import RedisQueue
from worker.demo_server.sample_images import sample_images
from worker.web import WebServer

WIDTHS = (300, 1920, 4000)
REPEATS = 15
CLIENTS = 4
PAIRS = 600
TASKS = 500


def analyze_ms() -> dict[int, float]:
    """Median time of one portrait at each width."""
    pipeline = Pipeline(Config())
    portrait = cv2.imdecode(np.frombuffer(sample_images()[0].content, np.uint8), cv2.IMREAD_COLOR)
    assert portrait is not None
    found = {}
    for width in WIDTHS:
        scaled = cv2.resize(portrait, (width, width * 3 // 4), interpolation=cv2.INTER_AREA)
        content = cv2.imencode(".jpg", scaled)[1].tobytes()
        times = [pipeline.analyze(content).elapsed_ms for _ in range(REPEATS)]
        found[width] = round(statistics.median(times), 1)
    return found


def pairs_per_second(queue: ImageQueue) -> float:
    """Pull and post as workers do, without any work in between."""
    content = sample_images()[4].content
    for _ in range(PAIRS):
        queue.add(content, "a.jpg", "image/jpeg", 0.3)
    with WebServer(create_app(queue)) as server:

        def drain(_: int) -> None:
            with requests.Session() as session:
                while (answer := session.get(f"{server.url}/image")).status_code == 200:
                    task = answer.headers["X-Task-Id"]
                    record = {"file_name": "a.jpg", "threshold": 0.3, "faces": [], "task_id": task}
                    session.post(
                        f"{server.url}/results",
                        json=record | {"worker": "w"},
                        headers={"Idempotency-Key": task},
                    )

        started = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(drain, range(CLIENTS)))
        return round(PAIRS / (time.perf_counter() - started), 1)


def celery_tasks_per_second(url: str) -> float:
    """With one process, broker and result backend at ``url``."""
    tiny = cv2.imencode(".png", np.full((32, 32), 128, np.uint8))[1].tobytes()
    image = base64.b64encode(tiny).decode()
    sender = Celery(broker=url, backend=url)
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "worker.celery_app", "worker", "-c", "1"],
            cwd=folder,
            env=os.environ | {"CELERY_BROKER_URL": url, "CELERY_RESULT_BACKEND": url},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            sender.send_task("emotion.analyze", [image, 0.3]).get(timeout=60)  # all is loaded
            started = time.perf_counter()
            results = [sender.send_task("emotion.analyze", [image, 0.3]) for _ in range(TASKS)]
            for result in results:
                result.get(timeout=60)
            return round(TASKS / (time.perf_counter() - started), 1)
        finally:
            process.terminate()
            process.wait(timeout=60)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--queue", metavar="URL", required=True, help="an empty Redis database")
    parser.add_argument("--json", type=Path, metavar="OUT")
    options = parser.parse_args()
    with Redis.from_url(options.queue) as redis:
        if redis.dbsize():
            parser.error(f"{options.queue} is not empty")
        figures = {
            "analyze_ms": analyze_ms(),
            "pairs": {
                "memory": pairs_per_second(MemoryQueue()),
                "redis": pairs_per_second(RedisQueue(options.queue)),
            },
            "celery_tasks": celery_tasks_per_second(options.queue),
        }
        redis.flushdb()
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
