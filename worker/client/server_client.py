"""The worker's side of the HTTP contract: pull an image, pull the threshold, post a result."""

import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from worker import __version__
from worker.client.answers import (
    Offer,
    clean_file_name,
    decode_base64,
    idempotency_key,
    json_object,
    parse_retry_after,
    parse_threshold,
    read_offer,
    threshold_in,
    visible,
)
from worker.client.bearer_token import read_token
from worker.client.download import Answer, HttpDownload
from worker.client.image_url import resolve_image_url
from worker.config import ServerConfig
from worker.errors import ImageLost, RetryLater, ServerBusy, ServerRefuses, UsageError

logger = logging.getLogger(__name__)

MAX_TEXT = 10_000  # bytes of an answer that holds no image
MAX_QUOTED = 200  # characters of the server's words in a message of ours

REFUSED_FOR_GOOD = {400, 410, 413, 415, 422}
FOR_ANYONE = {"User-Agent": f"emotion-worker/{__version__}", "Accept-Encoding": "gzip, deflate"}


@dataclass(frozen=True)
class PulledImage:
    """An image as the server gave it.

    ``threshold``: 0..1; None: ask `ServerClient.pull_threshold`. ``lease_id`` goes back with the
    result. ``etag``: for `ServerClient.stored`. ``problem``: why it can never be analysed;
    ``content`` is then empty and ``threshold`` None. ``digest``: SHA-256 in hex of the image's
    bytes, up to the limit; None: none could be read.
    """

    task_id: str
    file_name: str
    content: bytes = field(repr=False)
    threshold: float | None
    lease_id: str | None
    etag: str | None
    problem: ImageLost | None
    digest: str | None


class ServerClient:
    """Talks to the one server that worker.ini names. Safe to use from several threads.

    ``worker_id``: visible ASCII. Nothing is sent yet. Raises UsageError where the token or the
    certificates cannot be used.
    """

    def __init__(self, server: ServerConfig, worker_id: str) -> None:
        self._server = server
        self._worker_id = worker_id
        self._token = read_token(server)
        self._token_doubted = False
        self._fallback_told = False
        self._etag: str | None = None
        self._http = HttpDownload(server)

    def stored(self, image: PulledImage) -> None:
        """Say that the record of an image is on disk: its ETag goes with the pulls from now on."""
        self._etag = image.etag

    def close(self) -> None:
        """Close the connections that are kept open between requests."""
        self._http.close()

    def pull_image(self) -> PulledImage | None:
        """Ask for the next image; None: nothing new.

        Raises RetryLater (also as ServerUnreachable and ServerRefuses) where the server is at
        fault. What is wrong with the image itself comes back as its ``problem``.
        """
        headers = {"Accept": "image/*, application/json"}
        if self._etag:
            headers["If-None-Match"] = self._etag
        with self._request("GET", self._server.image_path, headers) as answer:
            if answer.status in (204, 304):
                return None
            self._expect_ok(answer, "image", "image_path")
            if answer.content_type == "application/json":
                return self._image_in_json(answer)
            self._expect_image(answer)
            return self._image_in_body(answer)

    def pull_threshold(self) -> float:
        """Ask for the threshold in force, 0..1; where the server has none (404), the fallback.

        Raises RetryLater (also as ServerUnreachable and ServerRefuses); a threshold that is no
        number from 0 to 1 is a fault of the server as well.
        """
        headers = {"Accept": "application/json, text/plain"}
        with self._request("GET", self._server.threshold_path, headers) as answer:
            if answer.status == 404:
                if not self._fallback_told:
                    self._fallback_told = True
                    logger.warning(
                        "the server has no %s: [server] fallback_threshold = %g applies",
                        self._server.threshold_path,
                        self._server.fallback_threshold,
                    )
                return self._server.fallback_threshold
            self._expect_ok(answer, "threshold", "threshold_path")
            said = threshold_in(answer.read(MAX_TEXT))
        threshold = parse_threshold(said)
        if threshold is None:
            raise RetryLater(f"threshold: {self._quote(str(said))} is no number from 0 to 1")
        return threshold

    def post_result(self, record: Mapping[str, Any], *, lease_id: str | None) -> str | None:
        """Post one record; None: accepted. A text: refused for good, and why.

        ``record`` holds a ``task_id``; ``lease_id``: the latest one seen with that task.

        Raises RetryLater (also as ServerUnreachable and ServerRefuses) where it must be posted
        again.
        """
        headers = {
            "Accept": "application/json, text/plain",
            "Content-Type": "application/json",
            "Idempotency-Key": idempotency_key(record["task_id"]),
        }
        if lease_id:
            headers["X-Lease-Id"] = lease_id
        body = json.dumps(record, allow_nan=False).encode()
        with self._request("POST", self._server.results_path, headers, body) as answer:
            if 200 <= answer.status < 300 or answer.status == 409:
                return None
            if answer.status in REFUSED_FOR_GOOD:
                return f"status {answer.status}{self._reason(answer)}"
            self._expect_ok(answer, "result", "results_path")
            return None

    def _request(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> AbstractContextManager[Answer]:
        headers = self._own_headers() | headers
        return self._http.request(method, self._server.url + path, headers, body, ours=True)

    def _own_headers(self) -> dict[str, str]:
        """What only our own server may see."""
        if self._token_doubted:
            try:
                self._token = read_token(self._server)
            except UsageError as error:
                # The file may just be being replaced: that must not end the daemon.
                logger.warning("%s; the old token stays in use", error)
            self._token_doubted = False
        token = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        return FOR_ANYONE | {"X-Worker-Id": self._worker_id} | token

    def _image_in_body(self, answer: Answer) -> PulledImage:
        offer = read_offer(answer.headers)
        limit = self._server.max_image_bytes
        declared = answer.declared or 0
        # What nothing else names, its bytes do: then they are read, even if they are too many.
        content = b"" if declared > limit and offer.task_id else answer.read(limit)
        try:
            threshold = offer.checked_threshold()
            _check_size(declared if declared > limit else len(content), limit)
        except ImageLost as problem:
            digest = _sha256(content[:limit])
            return _pulled(
                offer, offer.task_id or digest, problem=problem, digest=digest if content else None
            )
        digest = _sha256(content)
        return _pulled(offer, offer.task_id or digest, content, threshold, digest=digest)

    def _image_in_json(self, answer: Answer) -> PulledImage:
        try:
            # Base64 makes four bytes of three; the rest is for the other keys.
            document = json_object(_read(answer, self._server.max_image_bytes * 4 // 3 + MAX_TEXT))
        except ImageLost as problem:
            offer = read_offer(answer.headers)
            if offer.task_id is None:
                raise _nameless(problem) from problem
            return _pulled(offer, offer.task_id, problem=problem)
        return self.image_of(document, answer.headers)

    def image_of(
        self, document: Mapping[str, Any], headers: Mapping[str, str] = MappingProxyType({})
    ) -> PulledImage:
        """The image that an offer in JSON holds, or names by its URL, which is then downloaded.

        Raises RetryLater (also as ServerUnreachable and ServerRefuses) where it must be offered or
        downloaded again. What is wrong with the image itself comes back as its ``problem``.
        """
        offer = read_offer(headers, document)
        try:
            threshold = offer.checked_threshold()
            content = self._content(document)
            _check_size(len(content), self._server.max_image_bytes)
        except ImageLost as problem:
            if offer.task_id is None:
                raise _nameless(problem) from problem
            return _pulled(offer, offer.task_id, problem=problem)
        digest = _sha256(content)
        return _pulled(offer, offer.task_id or digest, content, threshold, digest=digest)

    def _content(self, document: Mapping[str, Any]) -> bytes:
        if isinstance(image := document.get("image"), str):
            return decode_base64(image)
        if isinstance(url := document.get("image_url"), str):
            return self._download(url)
        raise ImageLost("missing_key", "its JSON has neither image nor image_url as text")

    def _download(self, image_url: str) -> bytes:
        url, ours = resolve_image_url(
            image_url, self._server.url + self._server.image_path, self._server.allowed_hosts
        )
        headers = (self._own_headers() if ours else FOR_ANYONE) | {"Accept": "image/*"}
        with self._http.request("GET", url, headers, None, ours=ours) as answer:
            status = answer.status
            if status != 200 and not _may_pass(status) and not (ours and status in (401, 403)):
                # Asked for again and again, one dead link would hold up all other images.
                raise ImageLost("dead_url", f"its image_url answered with status {status}")
            self._expect_ok(answer, "image_url", "url")
            self._expect_image(answer)
            return _read(answer, self._server.max_image_bytes)

    def _expect_ok(self, answer: Answer, what: str, key: str) -> None:
        """Turn any status but 200 into RetryLater or ServerRefuses, which names the key to mend."""
        status = answer.status
        if status == 200:
            return
        message = f"{what}: the server answered with status {status}{self._reason(answer)}"
        if _may_pass(status):
            kind = ServerBusy if status in (429, 503) else RetryLater
            raise kind(message, wait=parse_retry_after(answer.headers.get("Retry-After")))
        if status < 400:
            location = self._quote(answer.headers.get("Location", ""))
            message, key = f"{message}, a redirect to {location} that is not followed", "url"
        elif status in (401, 403):
            self._token_doubted, key = True, "token_file"
        raise ServerRefuses(f"{message}; look at [server] {key}", status=status)

    def _expect_image(self, answer: Answer) -> None:
        kind = answer.content_type
        if not (kind.startswith("image/") or kind == "application/octet-stream"):
            raise RetryLater(
                f"image: the answer is {self._quote(kind or 'of no type')} and no image: a "
                "proxy's page? look at [server] url"
            )

    def _reason(self, answer: Answer) -> str:
        # A proxy's HTML page would explain nothing in a log line.
        if answer.content_type not in ("text/plain", "application/json"):
            return ""
        try:
            return f" ({self._quote(answer.read(MAX_TEXT).decode('utf-8', 'replace'))})"
        except RetryLater:
            return ""

    def _quote(self, text: str) -> str:
        """The server's words for a message of ours: it may repeat our token in them."""
        clean = visible(text[:MAX_TEXT])
        return repr((clean.replace(self._token, "***") if self._token else clean)[:MAX_QUOTED])


def _pulled(
    offer: Offer,
    task_id: str,
    content: bytes = b"",
    threshold: float | None = None,
    problem: ImageLost | None = None,
    digest: str | None = None,
) -> PulledImage:
    name = offer.file_name or clean_file_name(task_id) or "image"
    return PulledImage(
        task_id, name, content, threshold, offer.lease_id, offer.etag, problem, digest
    )


def _read(answer: Answer, limit: int) -> bytes:
    if answer.declared is not None:
        _check_size(answer.declared, limit)
    content = answer.read(limit)
    _check_size(len(content), limit)
    return content


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise ImageLost("too_large", "it is larger than [server] max_image_bytes allows")
    if size == 0:
        raise ImageLost("empty", "it has no bytes")


def _nameless(problem: ImageLost) -> RetryLater:
    return RetryLater(f"image: the JSON names no task, and {problem}")


def _may_pass(status: int) -> bool:
    """Whether waiting helps; otherwise the request itself is refused or sent elsewhere."""
    return status in (408, 425, 429) or not 300 <= status < 500


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
