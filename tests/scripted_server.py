"""Real servers on loopback that do as they are told: Flask, and a raw socket for torn answers.

with ScriptedServer() as server:
    server.script("/image", Reply(503, headers={"Retry-After": "7"}), Reply(204))
    ...                             # the first request gets the 503, all others the 204
    assert server.requests[0].path == "/image"

with RawServer(drip_body, half_body) as server:
    ...                             # connections are played in this order, the last for ever
"""

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import flask
from werkzeug.serving import WSGIRequestHandler, make_server


@dataclass(frozen=True)
class Reply:
    """One answer. ``delay``: seconds before it is given."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0


@dataclass(frozen=True)
class Request:
    """One request as the server saw it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


Answering = Reply | Callable[[Request], Reply]


class _Quiet(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


class ScriptedServer:
    """A Flask server in a thread. A path without a script answers 404; no connection is kept open.

    ``tls``: serve HTTPS. ``requests``: all that came, in order.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self._scripts: dict[str, list[Answering]] = {}
        self._lock = threading.Lock()
        app = flask.Flask(__name__)
        app.before_request(self._answer)
        self._server = make_server(
            "127.0.0.1", 0, app, threaded=True, request_handler=_Quiet, ssl_context=tls
        )
        self.port = self._server.server_port
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    def script(self, path: str, *answers: Answering) -> None:
        """Give these answers, one a request; the last one is then given for ever."""
        with self._lock:
            self._scripts[path] = list(answers)

    def _answer(self) -> flask.Response:
        incoming = flask.request
        request = Request(
            incoming.method, incoming.path, dict(incoming.headers), incoming.get_data()
        )
        with self._lock:
            self.requests.append(request)
            answers = self._scripts.get(incoming.path, [Reply(404)])
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
        reply = answer if isinstance(answer, Reply) else answer(request)
        time.sleep(reply.delay)
        response = flask.Response(reply.body, reply.status)
        if "Content-Type" not in reply.headers:
            del response.headers["Content-Type"]
        response.headers.update(reply.headers)
        return response

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


Act = Callable[[socket.socket], None]


class RawServer:
    """Accepts connections on loopback and plays one act on each; the last act is repeated.

    Acts that answer more than once read no bodies, and so serve GET alone.

    ``connections``: how many came.
    """

    def __init__(self, *acts: Act) -> None:
        self.connections = 0
        self._acts = list(acts)
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            act = self._acts[min(self.connections, len(self._acts) - 1)]
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._play, args=(act, connection), daemon=True).start()

    def _play(self, act: Act, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            act(connection)

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A shutdown, unlike a close, also wakes the thread that waits in accept or recv.
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def read_head(connection: socket.socket) -> bytes:
    """Read one request up to its empty line; b"" if the client hung up."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            return b""
        head += byte
    return head


def answering(*answers: bytes) -> Act:
    """Send these bytes as they are, one answer a request, all on one connection; then hang up."""

    def act(connection: socket.socket) -> None:
        for answer in answers:
            if not read_head(connection):
                return
            connection.sendall(answer)

    return act


def dripping(start: bytes, drop: bytes, *, pause: float = 0.05) -> Act:
    """Read a request, send ``start``, then ``drop`` again and again: never silent, never done."""

    def act(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(start)
        while True:
            time.sleep(pause)
            connection.sendall(drop)

    return act


def hang(connection: socket.socket) -> None:
    """Read a request, then say nothing until the client goes."""
    read_head(connection)
    connection.recv(1)


def reset(connection: socket.socket) -> None:
    """Read a request and reset the connection instead of an answer."""
    read_head(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"

drip_headers = dripping(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a")
drip_body = dripping(HEAD + b"Content-Length: 100000\r\n\r\n", b"a")
half_body = answering(HEAD + b"Content-Length: 1000\r\n\r\n" + b"a" * 500)
half_chunk = answering(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"a" * 500)
# A second answer hides behind the end that Content-Length gives for the first.
HIDDEN = b"HTTP/1.1 204 No Content\r\n\r\n"
long_body = answering(*[HEAD + b"Content-Length: 3\r\n\r\nabc" + HIDDEN] * 9)
