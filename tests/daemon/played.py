"""What the daemon's tests share: servers with a will of their own, and parts that fail when told.

Server, file and requests are real; the analysis, the clock and the faults are played.
"""

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tinydb import TinyDB

from tests.scripted_server import Reply, Request, ScriptedServer
from worker.analysis import Analysts
from worker.config import Config, load_config
from worker.database import Database
from worker.errors import DiskRefuses, ImageLost
from worker.record import Analysis, Box, Face

HANG = 60.0  # seconds after which a test that waits is given up

NOTHING = Reply(204)
THRESHOLD = Reply(body=b'{"threshold": 0.3}', headers={"Content-Type": "application/json"})
ANALYSIS = Analysis(100, 80, (Face(Box(1, 2, 31, 32), {"neutral": 0.25, "anger": 0.75}),), 12.34)


def image(task: str, body: bytes = b"pixels", **headers: str) -> Reply:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return Reply(body=body, headers={"Content-Type": "image/png", "X-Task-Id": task, **named})


def offer(task: str, url: str) -> Reply:
    """A task in JSON that names its image by a URL."""
    body = json.dumps({"task_id": task, "image_url": url}).encode()
    return Reply(body=body, headers={"Content-Type": "application/json"})


def configure(folder: Path, url: str, *flags: str) -> Config:
    settings = [
        f"server.url={url}",
        f"database.path={folder / 'results.json'}",
        "worker.id=w1",
        "worker.poll_interval=0.1",
        "worker.max_backoff=1",
    ]
    return load_config(environment={}, flags=[*settings, *flags])


def until(condition: Callable[[], object]) -> None:
    """Wait for what another thread brings about."""
    deadline = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def records(folder: Path) -> list[dict[str, Any]]:
    file = folder / "results.json"
    return [dict(document) for document in TinyDB(file).table("images")] if file.exists() else []


def tasks(folder: Path) -> list[str]:
    return [record["task_id"] for record in records(folder)]


def asked(server: ScriptedServer, path: str) -> list[Request]:
    """The requests for a path, in order."""
    return [request for request in list(server.requests) if request.path == path]


def keys(server: ScriptedServer) -> list[str]:
    """The tasks whose results were posted, in order."""
    return [request.headers["Idempotency-Key"] for request in asked(server, "/results")]


class PlayedAnalysts(Analysts):
    """Finds the same in every image, or what ``analyze`` was replaced by."""

    def __init__(self, outcome: Analysis | ImageLost = ANALYSIS) -> None:
        self.outcome = outcome
        self.analysed: list[bytes] = []

    def analyze(self, content: bytes) -> Analysis:
        self.analysed.append(content)
        if isinstance(self.outcome, ImageLost):
            raise self.outcome
        return self.outcome


class FillableDatabase(Database):
    """A database on a disk that is full while ``full``."""

    full = False

    def append(self, record: Mapping[str, Any], **noted: Any) -> bool:
        if self.full:
            raise DiskRefuses("no space left on the disk")
        return super().append(record, **noted)


class Clock:
    """Monotonic seconds that the test sets; with ``tick``, each look takes so long."""

    def __init__(self, tick: float = 0) -> None:
        self.now = 100.0
        self._ticks = itertools.repeat(tick)

    def __call__(self) -> float:
        self.now += next(self._ticks)
        return self.now


class OfferingServer(ScriptedServer):
    """Offers its oldest task until that task's result came; or, with ``lease``, gives each task
    once and again only after so many further requests.

    ``tagged``: with an ETag, and 304 where that comes back, as `flask.send_file` does.
    ``results``: what it answers to a post, before it counts as taken.
    """

    def __init__(self, names: Iterable[str], *, lease: int = 0, tagged: bool = False) -> None:
        super().__init__()
        self.open = list(names)
        self.taken: list[str] = []
        self.results = Reply(201)
        self._lease, self._tagged = lease, tagged
        self._leased: dict[str, int] = {}
        self._requests = 0
        self._changing = threading.Lock()
        self.script("/image", self._offer)
        self.script("/results", self.take)
        self.script("/threshold", THRESHOLD)

    def _offer(self, request: Request) -> Reply:
        with self._changing:
            self._requests += 1
            for name in self.open:
                if self._leased.get(name, 0) <= self._requests:
                    self._leased[name] = self._requests + self._lease
                    tag = {"ETag": f'"{name}"'} if self._tagged else {}
                    if tag and request.headers.get("If-None-Match") == tag["ETag"]:
                        return Reply(304)
                    return image(name, b"pixels", X_Threshold="0.3", **tag)
            return NOTHING

    def take(self, request: Request) -> Reply:
        """The answer to a post."""
        with self._changing:
            self._requests += 1
            name = request.headers["Idempotency-Key"]
            if self.results.status < 300 and name in self.open:
                self.open.remove(name)
                self.taken.append(name)
            return self.results
