"""What a child process of `Analysts` does: it loads, then analyses one image after the other.

Its standard input is a socket to the daemon. It ends when that is closed, be it in the middle of an
analysis.
"""

import json
import os
import signal
import socket
from dataclasses import asdict
from queue import SimpleQueue
from threading import Thread
from types import SimpleNamespace
from typing import Any

from worker.analysis.messages import receive, send
from worker.errors import ImageLost, UsageError, package_missing


def serve() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the daemon decides when it is over
    channel = socket.socket(fileno=0)
    messages: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_listen, args=(channel, messages), daemon=True).start()

    def answer(**what: Any) -> None:
        send(channel, json.dumps(what).encode())

    # no Config: that knows what must not be here, such as the token
    config = json.loads(messages.get(), object_hook=lambda keys: SimpleNamespace(**keys))
    try:
        from worker.analysis.pipeline import Pipeline

        pipeline = Pipeline(config)
    except ModuleNotFoundError as error:
        answer(usage=str(package_missing(error)))
    except UsageError as error:
        answer(usage=str(error))
    else:
        answer()
    while True:
        content = messages.get()
        try:
            answer(analysis=asdict(pipeline.analyze(content)))
        except ImageLost as lost:
            answer(lost=[lost.kind, str(lost)])


def _listen(channel: socket.socket, messages: "SimpleQueue[bytes]") -> None:
    """In a thread of its own, so that the end of the daemon is noticed during an analysis."""
    try:
        while True:
            messages.put(receive(channel))
    except (EOFError, OSError):
        os._exit(0)


if __name__ == "__main__":
    serve()
