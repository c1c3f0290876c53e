"""Reading the JSON file: its documents one by one, in small memory, and where each one stands.

Any file that TinyDB takes is read here, whatever its tables and its white space. Nothing here
changes a file.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from worker.database.rotation import rotated_files
from worker.database.torn import is_torn
from worker.errors import DatabaseUnusable

logger = logging.getLogger(__name__)

IMAGES = "images"
CLOSE = b"}}"
CHUNK = 1 << 17  # bytes read at once

_OPEN = re.compile(r"\s*\{")
# What may follow in the file, and in a table: the next key and its value, or the closing brace.
_NEXT_TABLE = re.compile(r'\s*(?:(,?)\s*"((?:[^"\\]|\\.)*)"\s*:\s*(?=\{)|\})')
_NEXT_DOCUMENT = re.compile(r'\s*(?:(,?)\s*"(\d{1,40})"\s*:\s*(?=\{)|\})')
_decode = json.JSONDecoder().raw_decode


class Entry(NamedTuple):
    """A document of "images"; ``at``: the byte where what stands before it ends."""

    at: int
    document: dict[str, Any]


class _Broken(Exception):
    """Raised when what comes next is no part of a TinyDB file."""


class _Text:
    """The file from byte ``at`` on as text, one character a byte, of which a stretch is in memory.
    Its methods raise _Broken."""

    def __init__(self, file: BinaryIO, at: int) -> None:
        self._file, self._base, self._text, self._pos = file, at, "", 0

    @property
    def at(self) -> int:
        """The byte of the file that comes next."""
        return self._base + self._pos

    def _read_on(self) -> None:
        """Read again what comes next, and what follows it."""
        seen = self._text[self._pos :]
        self._base, self._pos = self.at, 0
        self._file.seek(self._base)
        self._text = self._file.read(max(CHUNK, 4 * len(seen))).decode("latin-1")
        if self._text == seen:
            raise _Broken

    def take(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Go past what has to match here."""
        while not (found := pattern.match(self._text, self._pos)):
            self._read_on()
        self._pos = found.end()
        return found

    def document(self) -> dict[str, Any]:
        """Go past a JSON object."""
        while True:
            try:
                document: dict[str, Any]
                document, end = _decode(self._text, self._pos)
                if not self._text.isascii():
                    document = json.loads(self._text[self._pos : end].encode("latin-1"))
                self._pos = end
                return document
            except (ValueError, RecursionError):
                self._read_on()

    def finish(self) -> None:
        """Expect nothing more."""
        self._file.seek(self.at)
        if self._file.read().strip():
            raise _Broken


class Documents:
    """The documents of "images" of one file, to go through once.

    Afterwards: ``end``, the byte where the last of them ends; ``top``, the largest document id, or
    -1; ``torn``: what an interrupted append left behind it (empty if just the closing `}}` is not
    as it should be), or None; ``appendable``: apart from ``torn``, the file ends in these documents
    and a plain `}}`. Raises DatabaseUnusable if this is no TinyDB file, OSError.
    """

    def __init__(self, path: Path, at: int = 0, file: BinaryIO | None = None) -> None:
        """``at``: 0, or where one of the documents begins; ``file``: ``path``, if open already; it
        is closed in the end."""
        self.path, self.end, self._file = path, at, file
        self.top = -1
        self.torn: bytes | None = None
        self.appendable = False

    def __iter__(self) -> Iterator[Entry]:
        with self._file or self.path.open("rb") as file:
            tail = b""
            while True:
                seen, whole = tail, False
                with suppress(_Broken):
                    yield from self._entries(file)
                    if not self.appendable:
                        return
                    whole = True
                file.seek(self.end)
                tail = file.read()
                if whole or (self.appendable and is_torn(tail, self.end)):
                    break
                if not tail:  # an empty file
                    return
                if tail == seen:  # no writer has gone on meanwhile
                    raise DatabaseUnusable(
                        f"{self.path} is damaged, or a file of another program: no TinyDB document "
                        f"at byte {self.end}; restore it from a copy, or name another file"
                    )
        self.appendable = not whole or tail.startswith(CLOSE)
        if self.appendable and tail != CLOSE:
            self.torn = tail.removeprefix(CLOSE).rstrip(b"\r\n")

    def _entries(self, file: BinaryIO) -> Iterator[Entry]:
        """The documents from ``end`` on."""
        text = _Text(file, self.end)
        in_table = self.appendable = self.end > 0
        if in_table:
            file.seek(self.end - 1)
            is_first = file.read(1) == b"{"
        else:
            text.take(_OPEN)
            is_first = True
        while True:
            comma, key = text.take(_NEXT_DOCUMENT if in_table else _NEXT_TABLE).groups()
            if key is None:  # a closing brace
                if not in_table:
                    break
                in_table = is_first = False
            elif bool(comma) == is_first:
                raise _Broken
            elif in_table:
                document = text.document()
                is_first = False
                if self.appendable:
                    at, self.end = self.end, text.at
                    if (number := int(key)) > self.top:
                        self.top = number
                    yield Entry(at, document)
            else:
                text.take(_OPEN)
                in_table = is_first = True
                self.appendable = key == IMAGES
                if self.appendable:
                    self.end = text.at
        text.finish()


def task_id_of(record: Mapping[str, Any]) -> str | None:
    """The task a record is for, or None if it is for none, or if that is no text."""
    task_id = record.get("task_id")
    return task_id if isinstance(task_id, str) else None


def read_document(path: Path, at: int) -> dict[str, Any] | None:
    """The document that begins at this byte (see `Entry`), or None if none does.

    Raises OSError if the file cannot be read.
    """
    with suppress(FileNotFoundError, DatabaseUnusable):
        if 0 < at < path.stat().st_size:
            for entry in Documents(path, at):
                return entry.document
    return None


def read_records(path: Path, *, family: bool = True) -> Iterator[dict[str, Any]]:
    """The records in time order, in small memory and without a lock: of all files that rotation
    made of ``path``, or of this one file only.

    A torn tail is passed over, and the log says so. While a worker writes, the record under way may
    be missing. Raises DatabaseUnusable for a file that is missing, unreadable, damaged or of
    another program.
    """
    return _unread(path.resolve(), {}, family=family)


def follow_records(paths: Sequence[Path], wait: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """As `read_records` of one file after the other, and then what comes to any of them, across
    rotations, while ``wait`` returns True.

    ``wait`` is called before each look for more. Raises DatabaseUnusable, as `read_records` does.
    """
    read: dict[tuple[int, int], int] = {}
    while True:
        for path in paths:
            yield from _unread(path.resolve(), read)
        if not wait():
            return


def _unread(
    path: Path, read: dict[tuple[int, int], int], *, family: bool = True
) -> Iterator[dict[str, Any]]:
    """The records that are not ``read`` yet. This tells of each file, whatever rotation calls it
    meanwhile, at which byte its last record that was read begins."""
    try:
        # A rotation from here on gives this file another name: it must neither be missed nor come
        # twice.
        with path.open("rb") as current:
            older = rotated_files(path) if family else []
            for part in (*older, path):
                file = current if part is path else part.open("rb")
                status = os.fstat(file.fileno())
                identity = status.st_dev, status.st_ino
                is_new, last = identity not in read, read.get(identity, 0)
                documents = Documents(part, last, file)
                for entry in documents:
                    if entry.at > last:
                        read[identity] = entry.at
                        yield entry.document
                if documents.torn and is_new:
                    logger.warning(
                        "%s: an append is under way, or was interrupted (%d bytes, passed over); "
                        "if no worker runs, results --verify mends the file",
                        part,
                        len(documents.torn),
                    )
    except OSError as error:
        name = error.filename or path
        raise DatabaseUnusable(f"{name}: cannot read it: {error.strerror}") from error
