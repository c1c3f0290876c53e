"""The image in an answer, whichever way it comes: as the body, inside JSON, or behind a URL."""

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from worker.client import answers
from worker.client.answers import Offer, sha256
from worker.client.image_url import resolve_image_url
from worker.client.transport import Answer, Transport
from worker.config import ServerConfig
from worker.errors import ImageLost, RetryLater

logger = logging.getLogger(__name__)

MAX_WRONG_TYPES = 3  # in a row behind one URL: a proxy's page may pass, a dead link does not

# What object stores and frameworks call an image when nobody told them its type.
UNTYPED = {
    *("application/octet-stream", "application/x-octet-stream", "application/octetstream"),
    *("binary/octet-stream", "application/binary", "application/x-binary"),
    *("application/x-download", "application/download", "application/force-download"),
}


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


class Images:
    """Reads images out of answers. Safe to use from several threads."""

    def __init__(self, server: ServerConfig, transport: Transport) -> None:
        self._server = server
        self._transport = transport
        self._wrong_types: Counter[str] = Counter()
        self._unfinished: OrderedDict[str, Callable[[], PulledImage]] = OrderedDict()

    def in_answer(self, answer: Answer) -> PulledImage:
        """The image in an answer with status 200.

        Raises RetryLater when the server is at fault. What is wrong with the image itself comes
        back as its ``problem``.
        """
        is_json = answer.content_type == "application/json"
        if not is_json:
            _expect_image(answer)
        limit = self._server.max_image_bytes
        if is_json:
            limit = limit * 4 // 3 + answers.MAX_TEXT  # base64 makes four bytes of three
        offer = answers.read_offer(answer.headers, {}, self._transport.hide)
        # What nothing else names, its bytes do: then they are read, even if they are too many.
        body = b"" if answer.declared > limit and offer.task_id else answer.read(limit)
        try:
            _expect_size(max(answer.declared, len(body)), limit)
            if not is_json:
                return self._image(offer, lambda: body)
            document = answers.json_object(body)
        except ImageLost as problem:
            body = body[:limit]
            return _pulled(offer, b"" if is_json else body, body, problem=problem)
        offer = answers.read_offer(answer.headers, document, self._transport.hide)
        image = partial(self._image, offer, lambda: self._content(document), body)
        return self._finished(offer.task_id or sha256(body), image)

    def in_document(self, document: Mapping[str, Any]) -> PulledImage:
        """The image that an offer in JSON holds, or names by its URL, which is then downloaded.

        As `in_answer`, but what failed is left to the caller to try again.
        """
        offer = answers.read_offer({}, document, self._transport.hide)
        return self._image(offer, lambda: self._content(document))

    def unfinished(self) -> PulledImage | None:
        """The oldest image whose image_url was at fault, tried again; None: there is none."""
        try:
            key, image = self._unfinished.popitem(last=False)
        except KeyError:
            return None
        return self._finished(key, image)

    def close(self) -> None:
        """Say what was not downloaded."""
        if left := len(self._unfinished):
            logger.warning("%d images behind an image_url must be offered again", left)

    def _finished(self, key: str, image: Callable[[], PulledImage]) -> PulledImage:
        """The image; when its image_url is at fault, it is kept and tried again later.

        A server that gives each image away once would not offer it a second time.
        """
        self._unfinished.pop(key, None)  # an older offer of the same
        try:
            return image()
        except RetryLater:
            self._unfinished[key] = image
            raise

    def _image(self, offer: Offer, read: Callable[[], bytes], body: bytes = b"") -> PulledImage:
        content, threshold = b"", None
        try:
            content = read()
            _expect_size(len(content), self._server.max_image_bytes)
            if offer.threshold is not None:
                threshold = answers.check_threshold(offer.threshold, self._transport.hide)
        except ImageLost as problem:
            return _pulled(offer, content, body, problem=problem)
        return _pulled(offer, content, body, threshold)

    def _content(self, document: Mapping[str, Any]) -> bytes:
        if isinstance(image := document.get("image"), str):
            return answers.decode_base64(image)
        if isinstance(url := document.get("image_url"), str):
            return self._download(url)
        raise ImageLost("missing_key", "its JSON has neither image nor image_url as text")

    def _download(self, image_url: str) -> bytes:
        url, ours = resolve_image_url(
            image_url, self._server.url + self._server.image_path, self._server.allowed_hosts
        )
        with self._transport.request("GET", url, {"Accept": "image/*"}, ours=ours) as answer:
            status = answer.status
            if status != 200 and not answer.may_pass and not (ours and status in (401, 403)):
                # Asked for again and again, one dead link would hold up all other images.
                raise ImageLost("dead_url", f"its image_url answered with status {status}")
            answer.expect_ok("image_url", "url")
            try:
                _expect_image(answer)
            except RetryLater as error:
                self._wrong_types[url] += 1
                if self._wrong_types[url] < MAX_WRONG_TYPES:
                    raise
                self._wrong_types.pop(url, None)
                raise ImageLost("dead_url", f"its image_url leads to none: {error}") from error
            self._wrong_types.pop(url, None)
            _expect_size(answer.declared or 1, self._server.max_image_bytes)
            return answer.read(self._server.max_image_bytes)


def _pulled(
    offer: Offer,
    content: bytes,
    body: bytes,
    threshold: float | None = None,
    problem: ImageLost | None = None,
) -> PulledImage:
    """``body`` names the image when neither the server nor ``content`` does."""
    digest = sha256(content) if content else None
    task_id = offer.task_id or digest or sha256(body)
    name = offer.file_name or answers.clean_file_name(task_id) or "image"
    content = b"" if problem else content
    return PulledImage(
        task_id, name, content, threshold, offer.lease_id, offer.etag, problem, digest
    )


def _expect_image(answer: Answer) -> None:
    kind = answer.content_type
    if not kind.startswith("image/") and kind not in UNTYPED:
        raise RetryLater(
            f"image: the answer is {answer.quote(kind or 'of no type')} and no image: a proxy's "
            "page? look at [server] url"
        )


def _expect_size(size: int, limit: int) -> None:
    if size > limit:
        raise ImageLost("too_large", "it is larger than [server] max_image_bytes allows")
    if size == 0:
        raise ImageLost("empty", "it has no bytes")
