"""What a server's answer says, read with distrust: names, ids, thresholds, JSON, base64."""

import base64
import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PureWindowsPath
from typing import Any

from worker.errors import ImageLost
from worker.hints import fraction_hint

MAX_HEADER = 4_000
MAX_NAME = 255
MAX_TEXT = 10_000  # bytes of an answer that holds no image
MAX_QUOTED = 200  # characters of the server's words in a message of ours
MAX_TASK_ID = 1_000
MAX_KEY = 200
MAX_JSON_VALUES = 1_000  # an answer has five; millions of empty ones would fill the memory

# Control characters, also those that turn the direction of writing; line ends; half characters.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_TO_STANDARD = str.maketrans("-_", "+/", "\r\n")
_SENDABLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,998}[\x21-\x7e])?")


def visible(text: str) -> str:
    """The text without control characters: safe in a log line and on a terminal."""
    return "".join(char for char in text if unicodedata.category(char) not in _HIDDEN)


@dataclass(frozen=True)
class Offer:
    """How an answer describes its image; None: it does not say.

    ``threshold``: the text of what came, unchecked.
    """

    task_id: str | None
    file_name: str | None
    lease_id: str | None
    etag: str | None
    threshold: str | None


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


def read_offer(
    headers: Mapping[str, str], document: Mapping[str, Any], hide: Callable[[str], str] = visible
) -> Offer:
    """Put together what headers (which go first) and JSON keys say about an image.

    ``hide`` takes our token out of a text: a server may repeat it anywhere.
    """

    def said(header: str, key: str) -> object:
        return _header_text(headers.get(header, "")) or document.get(key)

    etag = headers.get("ETag", "").strip()
    strong = "" if etag[:2] in ("W/", "w/") else etag.strip('"')
    lease = _text(said("X-Lease-Id", "lease_id"))
    threshold = said("X-Threshold", "threshold")
    name = _disposition_name(headers.get("Content-Disposition", ""))
    return Offer(
        task_id=_storable(_text(said("X-Task-Id", "task_id")) or _header_text(strong), hide),
        file_name=clean_file_name(name or _text(said("X-File-Name", "file_name")), hide),
        # An id that no header can carry back is none.
        lease_id=lease if lease and _SENDABLE.fullmatch(lease) else None,
        etag=etag if _SENDABLE.fullmatch(etag) else None,
        threshold=None if threshold in (None, "") else str(threshold)[:MAX_TEXT],
    )


def check_threshold(value: object, hide: Callable[[str], str] = visible) -> float:
    """The threshold that a server gave: a number from 0 to 1, as a number or as text.

    Raises ImageLost when it is none; ``hide`` takes our token out of the message.
    """
    text = str(value)[:MAX_TEXT]
    try:
        # float() alone would take 0_1, and digits of all scripts.
        number = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise ImageLost(
            "bad_threshold",
            f"threshold {hide(text)[:MAX_QUOTED]} is not in 0..1{fraction_hint(number)}",
        )
    return abs(number)  # -0.0 is 0


def threshold_in(body: bytes) -> object:
    """What a threshold answer holds: in ``{"threshold": …}``, as bare JSON, or as text."""
    try:
        value = parse_json(body)
    except ValueError:
        return body.decode("utf-8", "replace")
    return value.get("threshold") if isinstance(value, dict) else value


def parse_json(body: bytes) -> Any:
    """Parse JSON that is neither deep nor holds very many values.

    Raises ValueError that says what is wrong.
    """
    if sum(body.count(mark) for mark in (b"[", b"{", b",")) > MAX_JSON_VALUES:
        raise ValueError(f"it holds more than {MAX_JSON_VALUES} values")
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def json_object(body: bytes) -> dict[str, Any]:
    """Parse the JSON object that describes an image.

    Raises ImageLost.
    """
    try:
        document = parse_json(body)
        if not isinstance(document, dict):
            raise ValueError("it is no object")
    except ValueError as error:
        raise ImageLost("bad_json", f"its JSON cannot be read: {error}") from error
    return document


def decode_base64(text: str) -> bytes:
    """Decode an image in base64, also with line ends, in the URL-safe alphabet or not padded.

    A prefix ``data:…;base64,`` is allowed. Raises ImageLost for anything else.
    """
    data = text.strip()
    if prefix := re.match(r"data:[^,]{0,200};base64,", data, re.IGNORECASE):
        data = data[prefix.end() :]
    data = data.translate(_TO_STANDARD).rstrip("=")
    try:
        return base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except ValueError as error:
        raise ImageLost("bad_base64", f"it is not valid base64: {error}") from error


def clean_file_name(name: str | None, hide: Callable[[str], str] = visible) -> str | None:
    """A name that leads nowhere: no folders, no control characters, at most 255 characters.

    None when nothing is left of it.
    """
    # Windows' rules know both slashes and drive letters, so they also serve elsewhere.
    base = PureWindowsPath(hide((name or "")[-MAX_HEADER:])).name[:MAX_NAME].strip()
    return None if base in ("", ".", "..") else base


def idempotency_key(task_id: str) -> str:
    """The task id, or its SHA-256 in hex when it is long or no header could carry it."""
    if re.fullmatch(rf"[\x21-\x7e]{{1,{MAX_KEY}}}", task_id):
        return task_id
    return sha256(task_id)


def sha256(content: bytes | str) -> str:
    """SHA-256 in hex."""
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    return hashlib.sha256(content).hexdigest()


def _disposition_name(header: str) -> str | None:
    if not header:
        return None
    from werkzeug.http import parse_options_header  # it loads a whole server

    header = _header_text(header[:MAX_HEADER])
    if '"' not in header:
        # A name with spaces or umlauts is often sent without its quotes.
        header = re.sub(r"(?<!\*)=([^;]*)", r'="\1"', header)
    # RFC 6266 prefers filename* wherever it stands; the parser takes the last of the two.
    header = re.sub(r";\s*filename\*", ";extended*", header, flags=re.IGNORECASE)
    _, parameters = parse_options_header(header)
    return parameters.get("extended") or parameters.get("filename")


def _header_text(value: str) -> str:
    """What a header says: it arrives as Latin-1, and many servers send UTF-8."""
    try:
        return value.encode("latin-1").decode("utf-8").strip()
    except UnicodeError:
        return value.strip()


def _text(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


def _storable(task_id: str, hide: Callable[[str], str]) -> str | None:
    """The id, or its SHA-256 when it does not belong into logs: two ids never become one."""
    if len(task_id) > MAX_TASK_ID or hide(task_id) != task_id:
        return sha256(task_id)
    return task_id or None
