"""The worker's side of the HTTP contract: pull an image, pull the threshold, post a result."""

import json
import logging
from collections.abc import Mapping
from typing import Any, Literal

from worker.client.answers import MAX_TEXT, check_threshold, idempotency_key, threshold_in
from worker.client.images import Images, PulledImage
from worker.client.transport import Transport
from worker.config import ServerConfig
from worker.errors import ImageLost, RetryLater

logger = logging.getLogger(__name__)

REFUSED_FOR_GOOD = {400, 410, 413, 415, 422}
KNOWS_NO_OPTIONS = {400, 405, 406, 501}
TEXT = "application/json, text/plain"


class ServerClient:
    """Talks to the one server that worker.ini names. Safe to use from several threads.

    ``worker_id``: visible ASCII. Nothing is sent yet. Raises UsageError when the token or the
    certificates cannot be used.
    """

    def __init__(self, server: ServerConfig, worker_id: str) -> None:
        self._server = server
        self._fallback_told = False
        self._etag: str | None = None
        self._transport = Transport(server, worker_id)
        self._images = Images(server, self._transport)

    def close(self) -> None:
        """Close the connections that are kept open between requests."""
        self._transport.close()
        self._images.close()

    def stored(self, image: PulledImage) -> None:
        """Say that the record of an image is on disk: its ETag goes with the pulls from now on."""
        self._etag = image.etag

    def pull_image(self) -> PulledImage | None:
        """Ask for the next image; None: nothing new.

        Raises RetryLater (also as ServerUnreachable and ServerRefuses) when the server is at
        fault. What is wrong with the image itself comes back as its ``problem``.
        """
        headers = {"Accept": "image/*, application/json"}
        if self._etag:
            headers["If-None-Match"] = self._etag
        url = self._server.url + self._server.image_path
        with self._transport.request("GET", url, headers) as answer:
            if answer.status not in (204, 304):
                answer.expect_ok("image", "image_path")
                return self._images.in_answer(answer)
        return self._images.unfinished()

    def image_of(self, document: Mapping[str, Any]) -> PulledImage:
        """The image that an offer in JSON holds, or names by its URL; as `pull_image`."""
        return self._images.in_document(document)

    def pull_threshold(self) -> float:
        """Ask for the threshold in force, 0..1; when the server has none (404), the fallback.

        Raises RetryLater (also as ServerUnreachable and ServerRefuses); a threshold that is no
        number from 0 to 1 is a fault of the server as well.
        """
        path, fallback = self._server.threshold_path, self._server.fallback_threshold
        url = self._server.url + path
        with self._transport.request("GET", url, {"Accept": TEXT}) as answer:
            if answer.status == 404:
                if not self._fallback_told:
                    self._fallback_told = True
                    logger.warning(
                        "the server has no %s: [server] fallback_threshold = %g applies",
                        path,
                        fallback,
                    )
                return fallback
            answer.expect_ok("threshold", "threshold_path")
            said = threshold_in(answer.read(MAX_TEXT))
        try:
            return check_threshold(said, self._transport.hide)
        except ImageLost as error:
            raise RetryLater(f"GET {path}: {error}") from error

    def post_result(self, record: Mapping[str, Any], *, lease_id: str | None) -> str | None:
        """Post one record; None: accepted. A text: refused for good, and why.

        ``record`` holds a ``task_id``; ``lease_id``: the latest one seen with that task.

        Raises RetryLater (also as ServerUnreachable and ServerRefuses) when it must be posted
        again.
        """
        headers = {
            "Accept": TEXT,
            "Content-Type": "application/json",
            "Idempotency-Key": idempotency_key(record["task_id"]),
        }
        if lease_id:
            headers["X-Lease-Id"] = lease_id
        body = json.dumps(record, allow_nan=False).encode()
        url = self._server.url + self._server.results_path
        with self._transport.request("POST", url, headers, body) as answer:
            if answer.status in REFUSED_FOR_GOOD:
                return f"status {answer.status}{answer.reason()}"
            if not 200 <= answer.status < 300 and answer.status != 409:
                answer.expect_ok("result", "results_path")
            return None

    def methods(self, key: Literal["image_path", "results_path"]) -> frozenset[str] | None:
        """Ask by OPTIONS which methods the path of a key takes; None: the server does not say.

        Raises RetryLater (also as ServerUnreachable and ServerRefuses) as a GET would.
        """
        url = self._server.url + getattr(self._server, key)
        with self._transport.request("OPTIONS", url, {}) as answer:
            if not 200 <= answer.status < 300 and answer.status not in KNOWS_NO_OPTIONS:
                answer.expect_ok("OPTIONS", key)
            allowed = answer.headers.get("Allow", "").upper()
        return frozenset(allowed.replace(",", " ").split()) or None
