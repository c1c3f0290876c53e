"""The worker's side of the contract: pull an image, pull the threshold, post a result."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from worker.client import answers
from worker.client.answers import MAX_TEXT, Offer, PulledImage, sha256
from worker.client.image_url import resolve_image_url
from worker.client.transport import Answer, Transport
from worker.config import ServerConfig
from worker.errors import ImageLost, RetryLater

logger = logging.getLogger(__name__)

REFUSED_FOR_GOOD = {400, 410, 413, 415, 422}
KNOWS_NO_OPTIONS = {400, 405, 406, 501}
TEXT = "application/json, text/plain"
MAX_WRONG_TYPES = 3  # in a row behind one URL: a proxy's page may pass, a dead link does not

# By task: how it was offered, and the image_url that was at fault; no more of the answer, since a
# server may offer any number of them.
Unfinished = dict[str, tuple[Offer, Mapping[str, Any]]]


class ServerClient:
    """Talks to the one server that worker.ini names. Safe to use from several threads.

    ``worker_id``: visible ASCII. ``unfinished``: what a former client left; this one goes on with
    it. Nothing is sent yet. Raises UsageError when the token or the certificates cannot be used.
    """

    def __init__(
        self, server: ServerConfig, worker_id: str, unfinished: Unfinished | None = None
    ) -> None:
        self._server = server
        self._transport = Transport(server, worker_id)
        self._fallback_told = False
        self._etag: str | None = None
        self._wrong_types: Counter[str] = Counter()
        # A server that gives each image away once would not offer them a second time.
        self._unfinished = {} if unfinished is None else unfinished

    def close(self) -> None:
        """Close the connections that are kept open between requests."""
        self._transport.close()

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
                return self._image_in(answer)
        for task in list(self._unfinished):
            if offered := self._unfinished.pop(task, None):  # unless another thread took it
                return self._finish(task, *offered)
        return None

    def image_of(self, document: Mapping[str, Any]) -> PulledImage:
        """The image that an offer in JSON holds, or names by its URL; as `pull_image`."""
        offer = answers.read_offer({}, document, self._transport.hide)
        return self._image(offer, sha256(b""), partial(self._content, document))

    def pull_threshold(self) -> float:
        """Ask for the threshold in force, 0..1; when the server has none (404), the fallback.

        Raises RetryLater (also as ServerUnreachable and ServerRefuses); a threshold that is no
        number from 0 to 1 is a fault of the server as well.
        """
        path, fallback = self._server.threshold_path, self._server.fallback_threshold
        with self._transport.request("GET", self._server.url + path, {"Accept": TEXT}) as answer:
            if answer.status == 404:
                if not self._fallback_told:
                    self._fallback_told = True
                    text = "the server has no %s: [server] fallback_threshold = %g applies"
                    logger.warning(text, path, fallback)
                return fallback
            answer.expect_ok("threshold", "threshold_path")
            said = answers.threshold_in(answer.read(MAX_TEXT))
        try:
            return answers.check_threshold(said, self._transport.hide)
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
            "Idempotency-Key": answers.idempotency_key(record["task_id"]),
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

    def _image_in(self, answer: Answer) -> PulledImage:
        is_json, limit = answer.content_type == "application/json", self._server.max_image_bytes
        if is_json:
            limit = limit * 4 // 3 + MAX_TEXT  # base64 makes four bytes of three
        else:
            answer.expect_image()
        offer = answers.read_offer(answer.headers, {}, self._transport.hide)
        # What nothing else names, its bytes do: then they are read, even if they are too many.
        body = b"" if answer.declared > limit and offer.task_id else answer.read(limit)
        try:
            _expect_size(max(answer.declared, len(body)), limit)
            document = answers.json_object(body) if is_json else {}
        except ImageLost as problem:
            content = b"" if is_json else body
            return self._image(offer, sha256(body[:limit]), lambda: content, problem)
        if not is_json:
            return self._image(offer, sha256(b""), lambda: body)
        offer = answers.read_offer(answer.headers, document, self._transport.hide)
        return self._finish(offer.task_id or sha256(body), offer, document)

    def _finish(self, task: str, offer: Offer, document: Mapping[str, Any]) -> PulledImage:
        """The image; when its image_url is at fault, it is kept and tried again later."""
        self._unfinished.pop(task, None)  # an older offer of the same
        try:
            return self._image(offer, task, partial(self._content, document))
        except RetryLater as error:
            error.keeps = True
            self._unfinished[task] = offer, {"image_url": document["image_url"]}
            raise

    def _image(
        self,
        offer: Offer,
        otherwise: str,
        read: Callable[[], bytes],
        problem: ImageLost | None = None,
    ) -> PulledImage:
        """``otherwise``: its task id if neither the server nor the image's bytes give one."""
        content, threshold, limit = b"", None, self._server.max_image_bytes
        try:
            content = read()
            _expect_size(len(content), limit)
            if offer.threshold is not None:
                threshold = answers.check_threshold(offer.threshold, self._transport.hide)
        except ImageLost as lost:
            problem = problem or lost
        digest = sha256(content[:limit]) if content else None
        task_id = offer.task_id or digest or otherwise
        name = offer.file_name or answers.clean_file_name(task_id) or "image"
        if problem:
            content, threshold = b"", None
        return PulledImage(
            task_id, name, content, threshold, offer.lease_id, offer.etag, problem, digest
        )

    def _content(self, document: Mapping[str, Any]) -> bytes:
        if isinstance(image := document.get("image"), str):
            return answers.decode_base64(image)
        if isinstance(url := document.get("image_url"), str):
            return self._download(url)
        raise ImageLost("missing_key", "its JSON has neither image nor image_url as text")

    def _download(self, image_url: str) -> bytes:
        server = self._server
        url, ours = resolve_image_url(
            image_url, server.url + server.image_path, server.allowed_hosts
        )
        with self._transport.request("GET", url, {"Accept": "image/*"}, ours=ours) as answer:
            dead = not answer.may_pass and not (ours and answer.status in (401, 403))
            if answer.status == 200 and not answer.is_image:
                self._wrong_types[url] += 1
                dead = self._wrong_types[url] >= MAX_WRONG_TYPES
            if dead or answer.is_image:
                del self._wrong_types[url]
            if dead:
                # Asked for again and again, one dead link would hold up all other images.
                kind = answer.quote(answer.content_type)
                text = f"its image_url answered with status {answer.status} and type {kind}"
                raise ImageLost("dead_url", text)
            answer.expect_ok("image_url", "url")
            answer.expect_image()
            _expect_size(answer.declared or 1, server.max_image_bytes)
            return answer.read(server.max_image_bytes)


def _expect_size(size: int, limit: int) -> None:
    if size > limit:
        raise ImageLost("too_large", "it is larger than [server] max_image_bytes allows")
    if size == 0:
        raise ImageLost("empty", "it has no bytes")
