"""Run the daemon against a server that fails, and count what came of each image.

A share of the server's answers is replaced by a fault: 500, 429 with Retry-After, a reset, a stall,
a drip, half a body, an HTML page with status 200, an image that was given before, a result that is
taken but whose answer is lost. With `--kill-every` the daemon is ended by SIGKILL again and again.
At the end every image must be in the JSON file once, and on the server once.

    python benchmarks/faults.py --minutes 10 --images 3000 --faults 0.3
    python benchmarks/faults.py --minutes 10 --images 5000 --faults 0.3 --kill-every 7
"""

import argparse
import json
import logging
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tinydb import TinyDB
from werkzeug.serving import WSGIRequestHandler, make_server

from worker.config import PROJECT
from worker.demo_server.app import create_app
from worker.demo_server.image_queue import ImageQueue, MemoryQueue
from worker.demo_server.sample_images import sample_images

LEASE = 3.0  # seconds, after which an image that was lost on the way is given out again
TIMEOUT = 0.7  # seconds, the daemon's
STALL = 0.9  # seconds
FAULTS = ("500", "429", "reset", "stall", "drip", "half", "html", "again", "lost")

Answer = tuple[str, list[tuple[str, str]], bytes]
SAID: dict[str, Answer] = {
    "500": ("500 Internal Server Error", [("Content-Type", "text/plain")], b"a fault"),
    "429": ("429 Too Many Requests", [("Retry-After", "1")], b""),
    "stall": ("204 No Content", [], b""),
    "html": ("200 OK", [("Content-Type", "text/html")], b"<html><title>Bad gateway</title></html>"),
    "half": (
        "200 OK",
        [("Content-Type", "image/jpeg"), ("Content-Length", "5000")],
        b"\xff\xd8" * 1000,
    ),
}


class FaultyApp:
    """The reference server, with a share of its answers replaced; a WSGI application."""

    def __init__(self, app: Any, share: float, seed: int) -> None:
        self._app = app
        self._share = share
        self._random = random.Random(seed)
        self._last_image: Answer | None = None
        self.faults: Counter[str] = Counter()
        self.requests = 0

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        self.requests += 1
        fault = self._choose(environ)
        if fault is None:
            answer: Answer | None = self._answer(environ)
            assert answer is not None
            if environ["PATH_INFO"] == "/image" and answer[0].startswith("200"):
                self._last_image = answer
        else:
            self.faults[fault] += 1
            if fault != "lost":  # unread, a body would be taken for the next request
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            if fault == "reset":
                self._reset(environ)
            if fault == "lost":
                self._answer(environ)
                self._reset(environ)
            if fault == "stall":
                time.sleep(STALL)
            if fault == "drip":
                start("200 OK", [("Content-Type", "image/jpeg"), ("Content-Length", "1000")])
                return self._drip()
            answer = self._last_image if fault == "again" else SAID[fault]
        assert answer is not None
        start(*answer[:2])
        return [answer[2]]

    def _choose(self, environ: dict[str, Any]) -> str | None:
        if self._random.random() >= self._share:
            return None
        fault = self._random.choice(FAULTS)
        fits = {
            "lost": environ["REQUEST_METHOD"] == "POST",
            "again": environ["PATH_INFO"] == "/image" and self._last_image is not None,
        }
        return fault if fits.get(fault, True) else "500"

    def _answer(self, environ: dict[str, Any]) -> Answer:
        said: list[Any] = []
        body = b"".join(self._app(environ, lambda *answer: said.append(answer)))
        return said[0][0], said[0][1], body

    def _reset(self, environ: dict[str, Any]) -> None:
        connection: socket.socket = environ["werkzeug.socket"]
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionResetError

    def _drip(self) -> Iterator[bytes]:
        for _ in range(1000):
            time.sleep(0.1)
            yield b"."


class Quiet(WSGIRequestHandler):
    """A refused handshake and a reset connection are what this is about: no line for each."""

    def log(self, *_: object) -> None:
        pass


def start_daemon(folder: Path, url: str) -> subprocess.Popen[bytes]:
    settings = {
        "server.url": url,
        "server.results_path": "/results",
        "server.timeout": str(TIMEOUT),
        "worker.poll_interval": "0.5",
        "worker.max_backoff": "2",
        "database.path": str(folder / "results.json"),
    }
    flags = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    with (folder / "daemon.log").open("ab") as log:
        command = [sys.executable, str(PROJECT / "run_worker.py"), "run", *flags]
        return subprocess.Popen(command, stderr=log)


def soak(minutes: float, images: int, share: float, kill_every: float, seed: int) -> dict[str, Any]:
    """Run it; returns what came of the images, and which faults were met."""
    samples = [sample for sample in sample_images() if "small" in sample.name]
    queue = MemoryQueue(threshold=0.3, lease_seconds=LEASE)
    app = create_app(queue)
    faulty = FaultyApp(app.wsgi_app, share, seed)
    app.wsgi_app = faulty  # type: ignore[method-assign, assignment]
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    started = time.monotonic()
    given: list[str] = []
    ended = killed = 0
    # Werkzeug's, which hands its sockets to the application.
    with make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        daemon, next_kill = start_daemon(folder, url), time.monotonic() + kill_every
        while len(given) < images or queue.counts()["done"] < images:
            elapsed = time.monotonic() - started
            if elapsed > 3 * minutes * 60 + 120:
                break
            while len(given) < min(images, images * elapsed / (minutes * 60)):
                sample = samples[len(given) % len(samples)]
                # Most bring their threshold: each further request is one more that can fail.
                own = 0.3 if len(given) % 10 else None
                given.append(queue.add(sample.content, sample.name, "image/jpeg", own))
            if daemon.poll() is not None:
                ended += 1
                daemon = start_daemon(folder, url)
            if kill_every and time.monotonic() > next_kill:
                daemon.kill()
                daemon.wait()
                killed += 1
                daemon = start_daemon(folder, url)
                next_kill = time.monotonic() + kill_every
            time.sleep(0.02)
        daemon.send_signal(signal.SIGTERM)
        exit_code = daemon.wait(timeout=60)
        server.shutdown()
    return {
        "seconds": round(time.monotonic() - started),
        "requests": faulty.requests,
        "faults": dict(sorted(faulty.faults.items())),
        **tally(given, queue, folder),
        "all_done_in_time": queue.counts()["done"] == images,
        "killed": killed,
        "ended_by_itself": ended,
        "exit_code": exit_code,
        "folder": str(folder),
    }


def tally(given: list[str], queue: ImageQueue, folder: Path) -> dict[str, int]:
    """What came of the tasks that were given: in the JSON file, and on the server."""
    stored = Counter(d["task_id"] for d in TinyDB(folder / "results.json").table("images"))
    received = Counter(json.loads(record)["task_id"] for record in queue.records())
    return {
        "images": len(given),
        "recorded": len(stored),
        "recorded_twice": sum(count - 1 for count in stored.values()),
        "not_recorded": len(set(given) - set(stored)),
        "received": len(received),
        "received_twice": sum(count - 1 for count in received.values()),
        "not_received": len(set(given) - set(received)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="count what a failing server makes of each image")
    parser.add_argument("--minutes", type=float, default=10, help="over which images are handed in")
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--faults", type=float, default=0.3, help="share of the answers, 0..1")
    parser.add_argument("--kill-every", type=float, default=0, metavar="SECONDS", help="0: never")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures here")
    options = parser.parse_args()
    figures = soak(
        options.minutes, options.images, options.faults, options.kill_every, options.seed
    )
    text = json.dumps(figures, indent=2)
    if options.json:
        options.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
