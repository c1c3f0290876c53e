"""The reference server: a queue of images and a threshold, over HTTP as openapi.json describes it.

What its queue promises stands in `image_queue.py`; the queue in memory ends with the process, the
one in Redis (`redis_queue.py`) can stand behind several servers at once.

The ETag is the task id. There is no 304: it would hold up the images behind.
"""

import hashlib
import hmac
import json
import logging
import mimetypes
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

from flask import Flask, Response, abort, request, send_file
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import HTTPException, MethodNotAllowed, Unauthorized

from worker.demo_server.image_queue import UNKNOWN_TYPE, ImageQueue
from worker.errors import RetryLater, UsageError
from worker.files import IMAGE_SUFFIXES, is_clutter
from worker.web import guard

MAX_RECORD_BYTES = 1_000_000

logger = logging.getLogger(__name__)


def load_folder(queue: ImageQueue, path: Path) -> int:
    """Add a folder's images, sorted by file name; returns how many there are.

    Raises UsageError when there is none, or one cannot be read.
    """
    count = 0
    try:
        for file in sorted(path.iterdir()):
            named = file.suffix.lower() in IMAGE_SUFFIXES and not is_clutter(Path(file.name))
            if named and file.is_file():
                kind = mimetypes.guess_type(file.name, strict=False)[0] or UNKNOWN_TYPE
                queue.add(file.read_bytes(), file.name, kind)
                count += 1
    except OSError as error:
        raise UsageError(f"cannot read the images of {path}: {error}") from error
    if not count:
        raise UsageError(f"0 images in {path}: name a folder with images in it")
    return count


def create_app(queue: ImageQueue, *, token: str | None = None) -> Flask:
    """The server over a queue, for any WSGI server; over a MemoryQueue, in one process of it.

    With a ``token``, every request must carry ``Authorization: Bearer <token>``; an empty one
    raises UsageError. Without one, pages from elsewhere are refused (`worker.web.guard`). A body of
    more than MAX_RECORD_BYTES gets 413.
    """
    if token == "":
        raise UsageError("the token is empty")
    app = Flask(__name__, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MAX_RECORD_BYTES, PROVIDE_AUTOMATIC_OPTIONS=False)
    if token is None:
        guarded = guard(app.wsgi_app, "default-src 'none'")
        app.wsgi_app = guarded  # type: ignore[assignment, method-assign]

    @app.before_request
    def authorise() -> None:
        given = request.headers.get("Authorization", "").encode()
        if token is not None and not hmac.compare_digest(given, f"Bearer {token}".encode()):
            raise Unauthorized("wrong or no bearer token", None, WWWAuthenticate("bearer"))

    @app.errorhandler(HTTPException)
    def as_json(error: HTTPException) -> ResponseReturnValue:
        headers = [pair for pair in error.get_headers() if pair[0] != "Content-Type"]
        return {"error": error.description}, error.code or 500, headers

    @app.errorhandler(RetryLater)
    def try_again(error: RetryLater) -> ResponseReturnValue:
        logger.error("%s", error)
        return {"error": "the queue cannot serve at present"}, 503, {"Retry-After": "1"}

    @app.get("/")
    def status() -> ResponseReturnValue:
        return {**queue.counts(), "openapi": "/openapi.json"}

    @app.get("/openapi.json")
    def description() -> ResponseReturnValue:
        return send_file(Path(__file__).with_name("openapi.json"))

    _serve_images(app, queue)
    _serve_results(app, queue)
    return app


def _serve_images(app: Flask, queue: ImageQueue) -> None:
    @app.route("/threshold", methods=["GET", "PUT"])
    def threshold() -> ResponseReturnValue:
        if request.method == "PUT":
            body = _json()
            if not isinstance(body, dict) or not _is_threshold(body.get("threshold")):
                abort(400, 'send {"threshold": N}, N a number from 0 to 1')
            queue.threshold = body["threshold"]
        return {"threshold": queue.threshold}

    @app.get("/image")
    def next_image() -> ResponseReturnValue:
        if request.method == "HEAD":
            raise MethodNotAllowed(["GET"], "to ask for an image takes a lease, so HEAD cannot")
        if (image := queue.lease()) is None:
            return "", 204
        name, task_id = image.file_name, image.task_id
        logger.info("%s goes to %s: task %s", name, _worker(), task_id)
        response = send_file(
            BytesIO(image.content),
            image.content_type,
            download_name=name,
            etag=task_id,
            conditional=False,
        )
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Task-Id"] = task_id
        response.headers["X-Lease-Id"] = str(uuid4())
        if image.threshold is not None:
            response.headers["X-Threshold"] = str(image.threshold)
        return response


def _serve_results(app: Flask, queue: ImageQueue) -> None:
    @app.post("/results")
    def store_result() -> ResponseReturnValue:
        record = _json()
        if not _is_record(record):
            abort(422, "no complete record: see Record in /openapi.json")
        task_id = record["task_id"]
        key = request.headers.get("Idempotency-Key")
        digest = hashlib.sha256(task_id.encode(errors="replace")).hexdigest()
        if not key or key not in (task_id, digest):
            abort(422, "Idempotency-Key is neither the record's task_id nor its SHA-256")
        stored = queue.finish(task_id, json.dumps(record))
        if stored is None:
            abort(410, "no such task, or the server forgot it when it stopped")
        if not stored:
            abort(409, "this task has its result already")
        what = "an error" if "error" in record else f"{len(record['faces'])} faces"
        logger.info("%s of %s from %s: task %s", what, record["file_name"], _worker(), task_id)
        return {"task_id": task_id}, 201

    @app.get("/results")
    def results() -> ResponseReturnValue:
        return Response(f"[{','.join(queue.records())}]", mimetype="application/json")


def _worker() -> str:
    return request.headers.get("X-Worker-Id", "somebody")


def _json() -> Any:
    """The request's body: JSON that every reader can parse, so no NaN, and nothing too deep."""
    try:
        value = json.loads(request.get_data())
        json.dumps(value, allow_nan=False)
        return value
    except (ValueError, RecursionError) as error:
        abort(400, f"the body is not JSON: {error}")


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
