"""Each file of examples/ runs as it stands."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import requests

from tests.photographs import SAMPLES
from tests.processes import LIMIT, Call, wait_for
from tests.redis_server import RedisServer, free_port
from worker.analysis.decoding import decode
from worker.config import PROJECT
from worker.database import read_records

EXAMPLES = PROJECT / "examples"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(PROJECT)}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("astronaut.jpg", "astronaut_small.jpg"):
        (folder / name).write_bytes(SAMPLES[name])
    return folder


def run(name: str, *words: str | Path) -> str:
    command = [sys.executable, EXAMPLES / name, *words]
    done = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def served(name: str, source: Path) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return requests.get(f"{url}/threshold", timeout=LIMIT).ok
        except requests.ConnectionError:
            return False

    command = [sys.executable, str(EXAMPLES / name), str(source), str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            wait_for(answers)
            yield url
        finally:
            server.terminate()


@pytest.fixture
def once(call: Call, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Drain a server, and give the records."""

    def drain(url: str, *words: str) -> list[dict[str, Any]]:
        done = call("once", "--url", url, *words)
        assert done.returncode == 0, done.stderr
        return list(read_records(tmp_path / "results.json"))

    return drain


def test_library(pictures: Path) -> None:
    said = run("library.py", *sorted(pictures.iterdir()))
    assert [line.split(": ")[1].split()[0] for line in said.splitlines()] == ["happiness"] * 2


def test_server(pictures: Path, once: Callable[..., list[dict[str, Any]]]) -> None:
    with served("server.py", pictures) as url:
        records = once(url)
    assert {record["file_name"] for record in records} == {path.name for path in pictures.iterdir()}


def test_server_with_leases(pictures: Path, once: Callable[..., list[dict[str, Any]]]) -> None:
    with served("server_with_leases.py", pictures) as url:
        records = once(url, "--set", "server.results_path=/results")
        assert requests.get(f"{url}/image", timeout=LIMIT).status_code == 204
    assert len(records) == 2


def test_webcam_server(tmp_path: Path, once: Callable[..., list[dict[str, Any]]]) -> None:
    picture = decode(SAMPLES["astronaut.jpg"], color=True)[:240, :320]
    video = cv2.VideoWriter(
        str(tmp_path / "video.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240)
    )
    for frame in (picture, picture[::-1]):
        video.write(np.ascontiguousarray(frame))
    video.release()
    with served("webcam_server.py", tmp_path / "video.avi") as url:
        records = once(url, "--set", "worker.prefetch=0")
    assert [len(record["image_size"]) for record in records] == [2, 2]


def test_celery_producer(pictures: Path, tmp_path: Path) -> None:
    with _redis(tmp_path) as broker, _celery_worker(tmp_path, broker):
        said = run("celery_producer.py", broker, *sorted(pictures.iterdir()))
    assert [len(json.loads(line)["faces"]) for line in said.splitlines()] == [1, 1]


def test_read_results(pictures: Path, call: Call, tmp_path: Path) -> None:
    analysed = call("analyze", str(pictures), "--database", str(tmp_path / "results.json"))
    assert analysed.returncode == 0, analysed.stderr
    said = run("read_results.py", tmp_path / "results.json")
    assert said.startswith("2 pictures, 2 with somebody who is surely happy")


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    server = RedisServer(folder)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


@contextmanager
def _celery_worker(folder: Path, broker: str) -> Iterator[None]:
    words = ["-A", "worker.celery_app", "worker", "--pool", "solo", "--loglevel", "ERROR"]
    own = {"CELERY_BROKER_URL": broker, "CELERY_RESULT_BACKEND": broker}
    own["WORKER_DATABASE_PATH"] = str(folder / "celery.json")
    with subprocess.Popen(
        [sys.executable, "-m", "celery", *words], cwd=folder, env=ENVIRONMENT | own
    ) as process:
        try:
            yield
        finally:
            process.terminate()
