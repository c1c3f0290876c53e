"""What 100,000 results that the server would not take cost the daemon, before and after it does.

The same images are analysed three times by the daemon's own loop, in this process, against the
reference server in another: with nothing to post but their own results, with a backlog that the
server refuses (503), and while the backlog drains. Prints images per second of each, the memory
that the backlog added, and whether it drained oldest first.

    python benchmarks/pending.py --backlog 100000 --images 300
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import flask
import requests
from tinydb import TinyDB

from worker.analysis import Analysts
from worker.config import Config, load_config
from worker.daemon.alarm import Alarm
from worker.daemon.scheduler import run
from worker.demo_server.sample_images import sample_images
from worker.web import WebServer


def serve(pipe: Connection) -> None:
    """A server that gives images away, counts what is posted, and refuses it when told to."""
    app = flask.Flask(__name__)
    sample = next(s for s in sample_images() if s.name == "astronaut_small.jpg")
    state: dict[str, Any] = {"left": 0, "given": 0, "refuse": False, "backlog": [], "own": 0}

    @app.get("/image")
    def image() -> flask.Response:
        if state["left"] == 0:
            return flask.Response(status=204)
        state["left"] -= 1
        state["given"] += 1
        headers = {"X-Task-Id": f"image-{state['given']}", "X-Threshold": "0.5"}
        return flask.Response(sample.content, headers=headers, mimetype="image/jpeg")

    @app.post("/results")
    def result() -> flask.Response:
        if state["refuse"]:
            return flask.Response(status=503)
        task = flask.request.get_json()["task_id"]
        if task.startswith("backlog-"):
            state["backlog"].append(int(task.removeprefix("backlog-")))
        else:
            state["own"] += 1
        return flask.Response(status=201)

    @app.put("/state")
    def change() -> dict[str, Any]:
        state.update(flask.request.get_json())
        return {}

    @app.get("/state")
    def show() -> dict[str, Any]:
        backlog = state["backlog"]
        ordered = backlog == sorted(backlog)
        return {"left": state["left"], "drained": len(backlog), "ordered": ordered}

    with WebServer(app) as server:
        pipe.send(server.url)
        pipe.recv()


def configure(url: str, database: Path) -> Config:
    flags = [
        f"server.url={url}",
        "server.results_path=/results",
        "worker.poll_interval=0.1",
        f"database.path={database}",
        "log.level=ERROR",
    ]
    return load_config(environment={}, flags=flags)


def images_per_second(url: str, images: int, alarm: Alarm) -> float:
    """Give ``images`` to a running daemon and time them; the first few only warm it up."""
    requests.put(f"{url}/state", json={"left": 20}, timeout=5)
    while ask(url)["left"]:
        time.sleep(0.05)
    requests.put(f"{url}/state", json={"left": images}, timeout=5)
    started = time.perf_counter()
    while ask(url)["left"] and not alarm.stop_requested:
        time.sleep(0.05)
    return images / (time.perf_counter() - started)


def ask(url: str) -> dict[str, Any]:
    """The server's state."""
    state: dict[str, Any] = requests.get(f"{url}/state", timeout=5).json()
    return state


def measure(backlog: int, images: int) -> dict[str, Any]:
    """Run the three phases."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there,))
    process.start()
    url = here.recv()
    folder = Path(tempfile.mkdtemp(prefix="pending-"))
    figures: dict[str, Any] = {"backlog": backlog, "images": images}

    def phase(database: Path, *names: str) -> None:
        alarm = Alarm()

        def drive() -> None:
            for name in names:
                requests.put(f"{url}/state", json={"refuse": name == "refused"}, timeout=5)
                while name == "draining" and not ask(url)["drained"]:
                    time.sleep(0.1)  # the poster is still backing off
                figures[name] = round(images_per_second(url, images, alarm), 2)
                figures[f"{name}_rss_mb"] = round(resident_mb(), 1)
            figures["drained_meanwhile"] = ask(url)["drained"]
            deadline = time.monotonic() + 600
            while names[-1] == "draining" and time.monotonic() < deadline:
                if ask(url)["drained"] >= backlog:
                    break
                time.sleep(0.2)
            alarm.stop()

        driver = threading.Thread(target=drive)
        driver.start()
        config = configure(url, database)
        with Analysts(config) as analysts:
            run(config, alarm, analysts)
        driver.join()

    try:
        phase(folder / "empty.json", "alone")
        records = {
            str(number): {
                "file_name": "x",
                "threshold": 0.5,
                "faces": [],
                "task_id": f"backlog-{number}",
            }
            for number in range(1, backlog + 1)
        }
        (folder / "full.json").write_text(json.dumps({"images": records}))
        del records
        phase(folder / "full.json", "refused", "draining")
        state = ask(url)
    finally:
        here.send("stop")
        process.join()
    stored = len(TinyDB(folder / "full.json").table("images"))
    return {
        **figures,
        "refused_over_alone": round(figures["refused"] / figures["alone"], 3),
        "draining_over_alone": round(figures["draining"] / figures["alone"], 3),
        "drained": state["drained"],
        "oldest_first": state["ordered"],
        "documents": stored,
    }


def resident_mb() -> float:
    """Memory of this process, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmRSS:")[1].split()[0]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description="what a backlog of results costs the daemon")
    parser.add_argument("--backlog", type=int, default=100_000)
    parser.add_argument("--images", type=int, default=300, help="timed in each of the three phases")
    options = parser.parse_args()
    print(json.dumps(measure(options.backlog, options.images), indent=2))


if __name__ == "__main__":
    main()
