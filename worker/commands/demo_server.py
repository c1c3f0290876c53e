"""The reference Flask server alone.

example: emotion-worker demo-server pictures/ --port 5000 --threshold 0.3
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from worker.commands.common import add_configuration, configure, new_alarm
from worker.errors import UsageError
from worker.hints import fraction, number, port

if TYPE_CHECKING:
    from worker.demo_server.image_queue import ImageQueue

PATHS = "GET /image, GET and PUT /threshold, POST and GET /results"
LOOPBACK = ("127.0.0.1", "localhost")


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [FOLDER ...] [options]"
    add = parser.add_argument
    add("folders", type=Path, nargs="*", metavar="FOLDER", help="of images to hand out")
    add("--port", type=port, default=5000, help="0: a free one; default: 5000")
    add("--threshold", type=fraction, help="0 to 1; default: 0.5, or what is in force in Redis")
    add("--host", default="127.0.0.1", help="address to listen on; default: this machine alone")
    add("--queue", metavar="URL", help="keep it in Redis, e.g. redis://127.0.0.1:6379/0")
    words, kind = "seconds until an image is handed on; default: 60", number(float, 0.01, 1e6)
    add("--lease", type=kind, default=60, metavar="SECONDS", help=words)
    add_configuration(parser)


def run(options: argparse.Namespace) -> int:
    alarm = new_alarm()
    from worker.client import read_token
    from worker.config import TOKEN_VARIABLE
    from worker.demo_server.app import create_app, load_folder
    from worker.web import WebServer

    token = read_token(configure(options).server)
    if token is None and options.host not in LOOPBACK:
        raise UsageError(
            f"--host {options.host} lets other machines in: set {TOKEN_VARIABLE} or [server] "
            "token_file, here and for the workers"
        )
    queue = new_queue(options)
    count = sum(load_folder(queue, folder) for folder in options.folders)
    app = create_app(queue, token=token)
    with WebServer(app, host=options.host, port=options.port) as server:
        print(f"serving on {server.url}; stop with Ctrl-C")
        print(f"{count} images, threshold {queue.threshold:g}; {PATHS}", flush=True)
        while not alarm.stop_requested:
            alarm.wait(3600)
    return 0


def new_queue(options: argparse.Namespace) -> "ImageQueue":
    """In Redis if --queue names one, else in memory."""
    wanted = {"threshold": options.threshold, "lease_seconds": options.lease}
    if options.queue:
        from worker.demo_server.redis_queue import RedisQueue

        return RedisQueue(options.queue, **wanted)
    from worker.demo_server.image_queue import MemoryQueue

    return MemoryQueue(**wanted)
