"""A day in an hour: run the real daemon for long against a server and a machine that misbehave.

The reference server, behind TLS, answers with the faults of `faults.py`. Every 150 s, beside that,
each of these comes once: the wall clock is set back an hour, then a day forward; the server's name
does not resolve; the server has a new certificate, of an authority that is not known yet; no file
can grow (the disk is full); the log is rotated, by renaming and by copying in turn. The daemon is
told by SIGHUP what changes for it, and is never started again.

    python benchmarks/soak.py --minutes 60 --json soak.json

Prints what came of each image, the daemon's memory (its analyst's included) and open files after
the first round and in the last, and exits with 1 where an image was lost or doubled, the daemon
ended, or either grew by more than a tenth. Linux only.
"""

import argparse
import json
import logging
import resource
import shutil
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from faults import LEASE, TIMEOUT, FaultyApp, Quiet, tally
from processes import memory_mb
from stepped_clock import write_offset
from werkzeug.serving import make_server

from worker.config import PROJECT
from worker.demo_server.app import create_app
from worker.demo_server.image_queue import MemoryQueue
from worker.demo_server.sample_images import sample_images

ROUND = 150.0  # seconds: 24 rounds in an hour, as many as a day has hours
HOUR, DAY = 3600.0, 86_400.0
MAX_GROWTH = 1.10


class Daemon:
    """The daemon as a subprocess, and what is done to it and to the machine around it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.restarts = 0
        self.events: list[str] = []
        self.samples: list[tuple[float, int]] = []  # MB of memory, open files; one a second
        self._port = port
        self._log = folder / "daemon.log"
        self._rotations = self._rotated_at = 0
        write_offset(folder / "clock", 0)
        self.configure("localhost", hangup=False)
        self.start()

    def start(self) -> None:
        clock = (PROJECT / "benchmarks" / "stepped_clock.py", self.folder / "clock")
        program = (PROJECT / "run_worker.py", "run", "--config", self.folder / "worker.ini")
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *map(str, (*clock, *program))], stderr=log
            )

    def configure(self, host: str, *, hangup: bool = True) -> None:
        (self.folder / "worker.ini").write_text(
            f"[server]\nurl = https://{host}:{self._port}\nresults_path = /results\n"
            f"ca_file = ca.pem\ntimeout = {TIMEOUT}\n[worker]\npoll_interval = 0.5\n"
            "max_backoff = 2\n[database]\npath = results.json\n"
        )
        if hangup:
            self.process.send_signal(signal.SIGHUP)

    def step_clock(self, seconds: float) -> None:
        write_offset(self.folder / "clock", seconds)

    def fill_disk(self, full: bool) -> None:
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
        size = (self.folder / "results.json").stat().st_size + 10
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size if full else hard, hard))

    def rotate_log(self) -> None:
        self._rotations += 1
        rotated = self.folder / f"daemon.log.{self._rotations}"
        if self._rotations % 2:
            self._log = self._log.rename(rotated)  # the daemon goes on in the file that it has open
        else:
            shutil.copy(self._log, rotated)
            with self._log.open("r+b") as log:
                log.truncate()
        self._rotated_at = self._log.stat().st_size
        self.process.send_signal(signal.SIGHUP)  # it always writes a line

    def log_goes_on(self) -> bool:
        """Whether something was written since the last rotation."""
        return self._log.stat().st_size > self._rotated_at

    def sample(self) -> None:
        files = Path("/proc", str(self.process.pid), "fd").iterdir()
        self.samples.append((memory_mb(self.process.pid), len(list(files))))


def new_certificate(folder: Path, name: str) -> Path:
    """A certificate for this machine that vouches for itself, and its key, in one file."""
    file = folder / name
    arguments = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=soak "
        f"-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout {file} -out {file}.crt"
    )
    subprocess.run(["openssl", *arguments.split()], check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + Path(f"{file}.crt").read_bytes())
    return file


def events(daemon: Daemon, tls: ssl.SSLContext) -> Iterator[tuple[float, str, Callable[[], None]]]:
    """The events of one round: when, as a share of it; which; and what is done."""
    certificate = new_certificate(daemon.folder, "server.pem")
    authority = daemon.folder / "server.pem.crt"

    def trust() -> None:
        shutil.copy(authority, daemon.folder / "ca.new")
        (daemon.folder / "ca.new").replace(daemon.folder / "ca.pem")

    yield 0.05, "clock an hour back", lambda: daemon.step_clock(-HOUR)
    yield 0.15, "clock a day forward", lambda: daemon.step_clock(DAY)
    yield 0.25, "clock right again", lambda: daemon.step_clock(0)
    yield 0.30, "name does not resolve", lambda: daemon.configure("nowhere.invalid")
    yield 0.40, "name resolves", lambda: daemon.configure("localhost")
    yield 0.50, "certificate changed", lambda: tls.load_cert_chain(certificate)
    yield 0.60, "new authority trusted", trust
    yield 0.70, "disk full", lambda: daemon.fill_disk(True)
    yield 0.80, "disk has room", lambda: daemon.fill_disk(False)
    yield 0.90, "log rotated", daemon.rotate_log


def soak(minutes: float, rate: float, share: float, seed: int) -> dict[str, Any]:
    """Run it; returns the figures. ``rate``: images a second, ``share``: of faulty answers."""
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    samples = [sample for sample in sample_images() if "small" in sample.name]
    queue = MemoryQueue(threshold=0.3, lease_seconds=LEASE)
    app = create_app(queue)
    app.wsgi_app = faulty = FaultyApp(app.wsgi_app, share, seed)  # type: ignore[method-assign, assignment]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(new_certificate(folder, "server.pem"))
    shutil.copy(folder / "server.pem.crt", folder / "ca.pem")
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet, ssl_context=tls)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    daemon = Daemon(folder, server.server_port)
    started, seconds, round_length = time.monotonic(), minutes * 60, min(ROUND, minutes * 60)
    given: list[str] = []
    waiting: list[tuple[float, str, Callable[[], None]]] = []
    rounds, log_went_on, heard, silence = 0, 0, (0, started), 0.0
    while len(given) < seconds * rate or queue.counts()["done"] < len(given):
        elapsed = time.monotonic() - started
        if elapsed > seconds + 300:
            break
        if not waiting and rounds * round_length <= elapsed < seconds:
            log_went_on += rounds > 0 and daemon.log_goes_on()
            waiting = [
                (rounds * round_length + part * round_length, what, act)
                for part, what, act in events(daemon, tls)
            ]
            rounds += 1
        if waiting and elapsed >= waiting[0][0] and daemon.samples:
            _, what, act = waiting.pop(0)
            daemon.events.append(what)
            print(f"{elapsed:7.1f} s  {what}", flush=True)
            act()
        if daemon.process.poll() is not None:
            daemon.restarts += 1
            daemon.start()
        if len(daemon.samples) < elapsed:
            daemon.sample()
        while len(given) < min(seconds, elapsed) * rate:
            sample = samples[len(given) % len(samples)]
            own = 0.3 if len(given) % 10 else None
            given.append(queue.add(sample.content, sample.name, "image/jpeg", own))
        if heard[0] != faulty.requests:
            silence = max(silence, time.monotonic() - heard[1])
            heard = faulty.requests, time.monotonic()
        time.sleep(0.02)
    daemon.process.send_signal(signal.SIGTERM)
    exit_code = daemon.process.wait(timeout=60)
    log_went_on += daemon.log_goes_on()
    server.shutdown()
    few = max(5, len(daemon.samples) // 20)
    first = daemon.samples[int(round_length) :][:few] or daemon.samples[:few]
    last = daemon.samples[-few:]
    return {
        "minutes": round((time.monotonic() - started) / 60, 1),
        "requests": faulty.requests,
        "faults": dict(sorted(faulty.faults.items())),
        "rounds": rounds,
        "events": len(daemon.events),
        "log_went_on": log_went_on,
        "longest_silence_s": round(silence, 1),
        **tally(given, queue, folder),
        "restarts": daemon.restarts,
        "exit_code": exit_code,
        "rss_mb": [round(statistics.median(m for m, _ in part), 1) for part in (first, last)],
        "open_files": [round(statistics.median(f for _, f in part)) for part in (first, last)],
        "folder": str(folder),
    }


def failures(figures: dict[str, Any]) -> list[str]:
    """The names of the figures that must not be as they are."""
    wrong = [
        name
        for name in ("not_recorded", "recorded_twice", "not_received", "received_twice")
        if figures[name]
    ]
    wrong += [name for name in ("restarts", "exit_code") if figures[name]]
    wrong += [name for name in ("rss_mb", "open_files") if _grew(*figures[name])]
    if figures["log_went_on"] < figures["rounds"]:
        wrong.append("log_went_on")
    return wrong


def _grew(first: float, last: float) -> bool:
    return last > first * MAX_GROWTH


def main() -> int:
    parser = argparse.ArgumentParser(description="run the daemon through a day of trouble")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=0.5, help="images a second")
    parser.add_argument("--faults", type=float, default=0.3, help="share of the answers, 0..1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures here")
    options = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    figures = soak(options.minutes, options.rate, options.faults, options.seed)
    wrong = failures(figures)
    figures["failed"] = wrong
    for name, value in figures.items():
        print(f"{name:<20}{value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
