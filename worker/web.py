"""What a page of this machine's own browser refuses, and what it tells the browser to refuse."""

import logging
import socket
from threading import Thread
from typing import Self

from flask import Flask, Response, abort, request
from werkzeug.serving import make_server

from worker.errors import UsageError

LOOPBACK = ("127.0.0.1", "localhost")


def guard(app: Flask, policy: str, host: str = LOOPBACK[0]) -> None:
    """Let other pages neither use nor embed this one. Where it listens on loopback, it answers
    under that name only. ``policy``: its Content-Security-Policy.
    """

    @app.before_request
    def refuse_strangers() -> None:
        # A page from elsewhere can send requests here, under a name of its own (DNS rebinding) or
        # as itself. Both say so in a header that no page can change.
        if host in LOOPBACK and request.host.rsplit(":", 1)[0] not in LOOPBACK:
            abort(403, "this page answers on 127.0.0.1 only")
        if request.headers.get("Origin", f"http://{request.host}") != f"http://{request.host}":
            abort(403, "this request comes from another page")

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = f"{policy}; frame-ancestors 'none'"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["Cache-Control"] = "no-store"
        return response


class DemoServer:
    """Serves an app from a thread between ``with`` and its end; ``url`` says where.

    ``port`` 0 takes a free one. Raises UsageError where it cannot listen there.
    """

    def __init__(self, app: Flask, *, host: str = "127.0.0.1", port: int = 0) -> None:
        try:
            # Werkzeug would print and end the process where the port is taken.
            listener = socket.create_server((host, port), backlog=128)
        except (OSError, OverflowError) as error:
            raise UsageError(f"cannot listen on {host}, port {port}: {error}") from error
        with listener:
            self._server = make_server(host, port, app, threaded=True, fd=listener.fileno())
        # It would write a line a request to standard error, also where nobody asked for a log.
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        self.url = f"http://{host}:{self._server.port}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
