"""What a child process of `Analysts` does: it loads, then analyses one image after the other.

Its argument is the configuration, as JSON; its standard input a socket to the daemon. It ends when
that is closed, be it in the middle of an analysis.
"""

import json
import os
import signal
import socket
import sys
from dataclasses import asdict
from io import BufferedReader
from queue import SimpleQueue
from threading import Thread
from types import SimpleNamespace
from typing import Any

from worker.errors import ImageLost, UsageError
from worker.record import Analysis

LOADED = Analysis(0, 0, (), 0)  # is said first: an analysis of nothing


def serve(settings: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the daemon decides when it is over
    channel = socket.socket(fileno=0)
    images: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_listen, args=(channel.makefile("rb"), images), daemon=True).start()

    def answer(what: dict[str, Any]) -> None:
        channel.sendall(json.dumps(what).encode() + b"\n")

    try:
        from worker.analysis.pipeline import Pipeline

        # No Config: that knows what must not be here, such as the token.
        pipeline = Pipeline(json.loads(settings, object_hook=lambda keys: SimpleNamespace(**keys)))
    except (ModuleNotFoundError, UsageError) as error:
        answer({"usage": str(error)})
        return
    answer(asdict(LOADED))
    while True:
        content = images.get()
        try:
            answer(asdict(pipeline.analyze(content)))
        except ImageLost as lost:
            answer({"lost": [lost.kind, str(lost)]})


def _listen(messages: BufferedReader, images: "SimpleQueue[bytes]") -> None:
    """In a thread of its own, so that the end of the daemon is noticed during an analysis."""
    try:
        for length in messages:
            images.put(messages.read(int(length)))
    finally:  # also for want of memory
        os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
