"""What a server's answer says, read with distrust: names, ids, thresholds, waiting times, JSON."""

import base64
import hashlib
import json
import re
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import PureWindowsPath
from typing import Any

from worker.errors import ImageLost

MAX_HEADER = 4_000  # the parser of Content-Disposition needs quadratic time
MAX_NAME = 255
MAX_TASK_ID = 1_000
MAX_NUMBER = 100
MAX_KEY = 200
MAX_JSON_VALUES = 1_000  # an answer has five; millions of empty ones would fill the memory

# Control characters, also those that turn the direction of writing; line ends; half characters.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SENDABLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,998}[\x21-\x7e])?")


def visible(text: str) -> str:
    """The text without control characters: safe in a log line and on a terminal."""
    return "".join(char for char in text if unicodedata.category(char) not in _HIDDEN)


@dataclass(frozen=True)
class Offer:
    """How an answer describes its image; None: it does not say."""

    task_id: str | None
    file_name: str | None
    lease_id: str | None
    etag: str | None
    threshold: object

    def checked_threshold(self) -> float | None:
        """The threshold that came along, 0..1, or None.

        Raises ImageLost where one came along and is no such number.
        """
        if self.threshold is None:
            return None
        threshold = parse_threshold(self.threshold)
        if threshold is None:
            said = visible(str(self.threshold)[:80])
            raise ImageLost("bad_threshold", f"its threshold {said} is no number from 0 to 1")
        return threshold


def read_offer(headers: Mapping[str, str], document: Mapping[str, Any] | None = None) -> Offer:
    """Put together what headers (which go first) and JSON keys say about an image."""

    def said(header: str, key: str) -> object:
        if header in headers:
            return _header_text(headers[header])
        return (document or {}).get(key)

    etag = headers.get("ETag", "").strip()
    strong = "" if etag[:2] in ("W/", "w/") else etag.strip('"')
    lease = _text(said("X-Lease-Id", "lease_id"))
    return Offer(
        task_id=_storable(_text(said("X-Task-Id", "task_id")) or _header_text(strong)),
        file_name=clean_file_name(
            _disposition_name(headers.get("Content-Disposition", ""))
            or _text(said("X-File-Name", "file_name"))
        ),
        # What no header can carry back is none.
        lease_id=lease if lease and _SENDABLE.fullmatch(lease) else None,
        etag=etag if _SENDABLE.fullmatch(etag) else None,
        threshold=said("X-Threshold", "threshold"),
    )


def parse_threshold(value: object) -> float | None:
    """A number from 0 to 1, given as a number or as text; None where it is anything else."""
    if isinstance(value, str) and len(value) <= MAX_NUMBER:
        # float() alone would take 0_1 and digits of all scripts.
        value = float(text) if _NUMBER.fullmatch(text := value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return abs(float(value))  # abs: -0.0 is 0


def threshold_in(body: bytes) -> object:
    """What a threshold answer holds: in ``{"threshold": …}``, as bare JSON, or as text."""
    try:
        value = parse_json(body)
    except ValueError:
        return body.decode("utf-8", "replace")
    return value.get("threshold") if isinstance(value, dict) else value


def parse_retry_after(value: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, a number or a date; None where it is neither."""
    value = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    try:
        wait = parsedate_to_datetime(value[:100]).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return wait if wait >= 0 else None


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
    except UnicodeDecodeError:
        raise ValueError("it is no Unicode text") from None


def json_object(body: bytes) -> dict[str, Any]:
    """Parse the JSON object that describes an image.

    Raises ImageLost.
    """
    try:
        document = parse_json(body)
    except ValueError as error:
        raise ImageLost("bad_json", f"its JSON cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise ImageLost("bad_json", "its JSON is no object")
    return document


def decode_base64(text: str) -> bytes:
    """Decode an image in strict base64; a prefix ``data:…;base64,`` is allowed.

    Raises ImageLost.
    """
    prefix = re.match(r"data:[^,]{0,200};base64,", text)
    data = text[prefix.end() :] if prefix else text
    try:
        if len(data) % 4 or data.endswith("==="):  # which b64decode would let pass
            raise ValueError("incorrect length or padding")
        return base64.b64decode(data, validate=True)
    except ValueError as error:
        raise ImageLost("bad_base64", f"it is not valid base64: {error}") from error


def clean_file_name(name: str | None) -> str | None:
    """A name that leads nowhere: no folders, no control characters, at most 255 characters.

    None where nothing is left of it.
    """
    # Windows' rules know both slashes and drive letters, so they also serve elsewhere.
    base = PureWindowsPath(visible((name or "")[-MAX_HEADER:])).name[:MAX_NAME].strip()
    return None if base in ("", ".", "..") else base


def idempotency_key(task_id: str) -> str:
    """The task id, or its SHA-256 in hex where it is long or no header could carry it."""
    if re.fullmatch(rf"[\x21-\x7e]{{1,{MAX_KEY}}}", task_id):
        return task_id
    return _sha256(task_id)


def _disposition_name(header: str) -> str | None:
    message = Message()
    message["Content-Disposition"] = _header_text(header[:MAX_HEADER])
    parameters = message.get_params(failobj=[], header="Content-Disposition")
    names = [value for key, value in parameters if key.lower() == "filename"]
    for name in names:
        if isinstance(name, tuple):  # filename*, which RFC 6266 prefers: charset, language, text
            encoding = "iso-8859-1" if (name[0] or "").lower() == "iso-8859-1" else "utf-8"
            return str(name[2]).encode("latin-1", "replace").decode(encoding, "replace")
    return names[0] if names else None


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


def _storable(task_id: str | None) -> str | None:
    """The id, or its SHA-256 where it does not belong into logs: two ids never become one."""
    if task_id and (len(task_id) > MAX_TASK_ID or visible(task_id) != task_id):
        return _sha256(task_id)
    return task_id or None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
