"""The reference server: a queue of images and a threshold, over HTTP as openapi.json describes it.

It is kept in memory and ends with the process. What it promises, and other servers should:

- An image is given to one worker at a time, under a lease, and goes to the back of the line, so
  that one which kills its workers holds up nobody. Where the lease runs out without a result, it is
  given out again: a new lease, the same task id.
- A task has one result: the first complete record under its key. A record is complete in itself,
  so it is welcome also after its lease ran out or was handed on; the second worker's gets 409.
  Nothing else ends a lease early: no lease id, stale or not, acknowledges anything.
- The ETag is the task id. An image whose ETag comes in If-None-Match is on that worker's disk: it
  gets the next other one, or 204. There is no 304: it would hold up the images behind.
"""

import base64
import hashlib
import hmac
import json
import logging
import mimetypes
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Self
from urllib.parse import quote
from uuid import uuid4

from flask import Flask, Response, abort, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import HTTPException, MethodNotAllowed, Unauthorized
from werkzeug.serving import make_server

from worker.errors import UsageError

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
UNKNOWN_TYPE = "application/octet-stream"
MAX_RECORD_BYTES = 1_000_000


@dataclass(frozen=True)
class QueuedImage:
    """An image and what goes with it. ``threshold`` is 0..1, or None where the server's holds."""

    task_id: str
    file_name: str
    content_type: str
    content: bytes
    threshold: float | None


@dataclass(kw_only=True, eq=False, repr=False)
class ImageQueue:
    """Images that wait, are under lease, or are done; each call may come from any thread.

    ``threshold`` (0..1) is the one in force; it may be set at any time. ``lease_seconds`` is how
    long a worker has for one image, by ``clock`` (seconds that never run back).
    """

    threshold: float = 0.35
    lease_seconds: float = 60.0
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._lock = Lock()
        # Each with the time from which it may be handed out, the next in line first.
        self._open: OrderedDict[str, tuple[QueuedImage, float]] = OrderedDict()
        self._records: dict[str, str] = {}

    def add(
        self, content: bytes, name: str, kind: str = UNKNOWN_TYPE, threshold: float | None = None
    ) -> str:
        """Put an image of media type ``kind`` at the end of the line; returns its task id."""
        # Printable and short: it must fit into a header.
        name = "".join(filter(str.isprintable, name))[-255:] or "image"
        image = QueuedImage(str(uuid4()), name, kind, content, threshold)
        with self._lock:
            self._open[image.task_id] = (image, self.clock())
        return image.task_id

    def lease(self, known: Container[str] = ()) -> QueuedImage | None:
        """Hand out the next image whose task id is not in ``known``; None where none waits."""
        with self._lock:
            now = self.clock()
            for task_id, (image, free_from) in self._open.items():
                if free_from <= now and task_id not in known:
                    self._open[task_id] = (image, now + self.lease_seconds)
                    self._open.move_to_end(task_id)
                    return image
        return None

    def finish(self, task_id: str, record: str) -> bool:
        """Keep a task's record (JSON text) and forget the image, whoever holds its lease.

        Returns False, and keeps nothing, where the task has a record already. Raises KeyError for
        a task that never was in this queue.
        """
        with self._lock:
            if task_id in self._records:
                return False
            del self._open[task_id]
            self._records[task_id] = record
        return True

    def records(self) -> list[str]:
        """Every record (JSON text), in the order in which they came."""
        with self._lock:
            return list(self._records.values())

    def counts(self) -> dict[str, int]:
        """How many images are ``waiting``, ``leased`` and ``done``."""
        with self._lock:
            leased = sum(free_from > self.clock() for _, free_from in self._open.values())
            waiting = len(self._open) - leased
            return {"waiting": waiting, "leased": leased, "done": len(self._records)}


def load_folder(queue: ImageQueue, path: Path) -> None:
    """Add a folder's images, sorted by file name. Raises UsageError where one cannot be read."""
    try:
        for file in sorted(path.iterdir()):
            if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file():
                kind = mimetypes.guess_type(file.name, strict=False)[0] or UNKNOWN_TYPE
                queue.add(file.read_bytes(), file.name, kind)
    except OSError as error:
        raise UsageError(f"cannot read the images of {path}: {error}") from error


def create_app(
    queue: ImageQueue, *, token: str | None = None, max_image_bytes: int = 32_000_000
) -> Flask:
    """The server over a queue, for any WSGI server that runs it in one process, threads or not.

    With a ``token``, every request must carry ``Authorization: Bearer <token>``; an empty one
    raises UsageError. More than ``max_image_bytes`` in a body, or MAX_RECORD_BYTES, gets 413.
    """
    if token == "":
        raise UsageError("the token is empty")
    app = Flask(__name__, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=max_image_bytes, PROVIDE_AUTOMATIC_OPTIONS=False)
    openapi = Path(__file__).with_name("openapi.json").read_bytes()

    @app.before_request
    def authorise() -> None:
        given = request.headers.get("Authorization", "").encode()
        if token is not None and not hmac.compare_digest(given, f"Bearer {token}".encode()):
            raise Unauthorized("wrong or no bearer token", None, WWWAuthenticate("bearer"))

    @app.errorhandler(HTTPException)
    def as_json(error: HTTPException) -> ResponseReturnValue:
        headers = [pair for pair in error.get_headers() if pair[0] != "Content-Type"]
        return {"error": error.description}, error.code or 500, headers

    @app.get("/")
    def status() -> ResponseReturnValue:
        return {**queue.counts(), "openapi": "/openapi.json"}

    @app.get("/openapi.json")
    def description() -> ResponseReturnValue:
        return Response(openapi, mimetype="application/json")

    @app.get("/image")
    def next_image() -> ResponseReturnValue:
        if request.method == "HEAD":
            raise MethodNotAllowed(["GET"], "to ask for an image takes a lease, so HEAD cannot")
        if (image := queue.lease(request.if_none_match)) is None:
            return Response(status=204)
        lease_id = str(uuid4())
        own = {} if image.threshold is None else {"threshold": image.threshold}
        accept = request.accept_mimetypes
        # Who takes both as gladly, as the worker does, gets the bytes: a quarter less to send.
        if accept["application/json"] > accept["image/*"]:
            content = base64.b64encode(image.content).decode()
            ids = {"task_id": image.task_id, "lease_id": lease_id}
            response = jsonify(image=content, file_name=image.file_name, **ids, **own)
        else:
            response = Response(image.content, content_type=image.content_type)
            ascii_name = image.file_name.encode("ascii", "replace").decode()
            names = {
                "filename": ascii_name,
                "filename*": f"UTF-8''{quote(image.file_name, safe='')}",
            }
            response.headers.set("Content-Disposition", "inline", **names)
            response.set_etag(image.task_id)
            if image.threshold is not None:
                response.headers["X-Threshold"] = str(image.threshold)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Task-Id"] = image.task_id
        response.headers["X-Lease-Id"] = lease_id
        return response

    @app.post("/images")
    def add_image() -> ResponseReturnValue:
        kind = request.mimetype
        if not kind.startswith("image/") and kind != UNKNOWN_TYPE:
            abort(415, f"send the bytes of one image, as image/... or {UNKNOWN_TYPE}")
        if not (content := request.get_data()):
            abort(400, "the body is empty: send the bytes of one image")
        # WSGI hands over as Latin-1 what curl and others send as UTF-8.
        name = request.headers.get("X-File-Name", "").encode("latin-1").decode(errors="replace")
        own = request.headers.get("X-Threshold")
        threshold = None if own is None else _json(own, "X-Threshold")
        if own is not None and not _is_threshold(threshold):
            abort(400, "X-Threshold is not a number from 0 to 1")
        return {"task_id": queue.add(content, name, kind, threshold)}, 201

    @app.route("/threshold", methods=["GET", "PUT"])
    def threshold() -> ResponseReturnValue:
        if request.method == "PUT":
            body = _json(request.get_data(), "the body")
            if not isinstance(body, dict) or not _is_threshold(body.get("threshold")):
                abort(400, 'send {"threshold": N}, N a number from 0 to 1')
            queue.threshold = body["threshold"]
        return {"threshold": queue.threshold}

    @app.post("/results")
    def store_result() -> ResponseReturnValue:
        request.max_content_length = MAX_RECORD_BYTES
        record = _json(request.get_data(), "the body")
        if not (key := request.headers.get("Idempotency-Key")):
            abort(400, "the header Idempotency-Key is missing: it carries the task id")
        if not _is_record(record):
            abort(422, "no complete record: see Record in /openapi.json")
        task_id = record["task_id"]
        if key not in (task_id, hashlib.sha256(task_id.encode(errors="replace")).hexdigest()):
            abort(422, "Idempotency-Key is neither the record's task_id nor its SHA-256")
        try:
            stored = queue.finish(task_id, json.dumps(record))
        except KeyError:
            abort(410, "no such task: this server forgets its tasks when it stops")
        if not stored:
            abort(409, "this task has its result already")
        return {"task_id": task_id}, 201

    @app.get("/results")
    def results() -> ResponseReturnValue:
        return Response(f"[{','.join(queue.records())}]", mimetype="application/json")

    return app


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


def _json(text: str | bytes, name: str) -> Any:
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)  # loads() takes NaN and Infinity, which JSON has not
    except (ValueError, RecursionError) as error:
        abort(400, f"{name} is not JSON: {error}")
    return value


def _is_threshold(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _is_record(value: Any) -> bool:
    match value:
        case {"file_name": str(), "task_id": str(), "worker": str(), "faces": [*faces]}:
            threshold = value.get("threshold", "")
            return (threshold is None or _is_threshold(threshold)) and all(map(_is_face, faces))
    return False


def _is_face(value: Any) -> bool:
    match value:
        case {"face_id": number, "bbox": [str(), str(), str(), str()]}:
            return type(number) in (int, float) and number >= 1 and number % 1 == 0
    return False
