"""Reading the JSON file: its documents one by one, in small memory, and where each one stands.

Any file that TinyDB takes is read here, whatever its tables and its white space. Nothing here
changes a file.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from worker.database.rotation import rotated_files
from worker.database.torn import is_torn
from worker.errors import DatabaseUnusable

logger = logging.getLogger(__name__)

IMAGES = "images"
CLOSE = b"}}"
CHUNK = 1 << 17  # bytes read at once
LONGEST_KEY = 1 << 12  # bytes

_NAME = r'"((?:[^"\\]|\\.)*)"'
_OPEN, _END = re.compile(r"\s*\{"), re.compile(r"\s*\}")
_TABLE = re.compile(rf"\s*{_NAME}\s*:\s*\{{")
_NEXT_TABLE = re.compile(rf"\s*,\s*{_NAME}\s*:\s*\{{")
_NUMBER = r'"(\d{1,40})"\s*:\s*(?=\{)'
_KEY, _NEXT_KEY = re.compile(rf"\s*{_NUMBER}"), re.compile(rf"\s*,\s*{_NUMBER}")
_NOTHING = re.compile(r"\s*\Z")
_decode = json.JSONDecoder().raw_decode


class Entry(NamedTuple):
    """A document of "images" at bytes ``at`` to ``end``.

    ``at`` lies before the separator and the key: it is the end of what stands before.
    """

    at: int
    end: int
    document: dict[str, Any]


class _Broken(Exception):
    """Raised when what comes next is no part of a TinyDB file."""


class _Window:
    """A stretch of the file as text, one character a byte, read again from ``mark`` as needed, so
    that what a writer has replaced meanwhile is seen as a whole. ``is_first``: it begins behind an
    opening brace."""

    def __init__(self, file: BinaryIO, at: int) -> None:
        self._file = file
        file.seek(max(0, at - 1))
        self.is_first = file.read(1) == b"{"
        self._base = at
        self.pos = self.mark = 0
        self._fill(CHUNK)
        self.is_empty = not self._text
        self.top = -1

    def _fill(self, size: int) -> None:
        self._base += self.mark
        self.pos -= self.mark
        self.mark = 0
        self._file.seek(self._base)
        self._text = self._file.read(size).decode("latin-1")
        self._complete = len(self._text) < size
        self._near_end = len(self._text) - (0 if self._complete else LONGEST_KEY)

    @property
    def start(self) -> int:
        """The byte at which `mark` stands."""
        return self._base + self.mark

    @property
    def at(self) -> int:
        """The byte of the file that comes next."""
        return self._base + self.pos

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Go past what matches here, if anything does."""
        if self.pos > self._near_end:
            self._fill(CHUNK)
        found = pattern.match(self._text, self.pos)
        if found:
            self.pos = found.end()
        return found

    def need(self, pattern: re.Pattern[str]) -> None:
        if not self.take(pattern):
            raise _Broken

    def documents(self, key: re.Pattern[str]) -> Iterator[Entry]:
        """Go past the documents of a table, and past its end; `top` becomes the largest id."""
        self.top = -1
        while True:
            self.mark = self.pos
            if self.pos > self._near_end:
                self._fill(CHUNK)
            found = key.match(self._text, self.pos)
            if not found:
                self.need(_END)
                return
            at, size = self._base + self.pos, CHUNK
            self.pos = found.end()
            while True:
                try:
                    document, self.pos = _decode(self._text, self.pos)
                    break
                except (ValueError, RecursionError):
                    if self._complete:
                        raise _Broken from None
                    size *= 4
                    self._fill(size)
            end = self._base + self.pos
            if not self._text.isascii():
                document = self._decoded(at, end)
            number = int(found[1])
            if number > self.top:
                self.top = number
            yield Entry(at, end, document)
            key = _NEXT_KEY

    def _decoded(self, at: int, end: int) -> dict[str, Any]:
        """The document at these bytes, if it may hold other characters than ASCII."""
        text = self._text[at - self._base : end - self._base].encode("latin-1")
        try:
            document: dict[str, Any] = json.loads(text[text.index(b"{") :])
        except ValueError:
            raise _Broken from None
        return document


class Documents:
    """The documents of "images" of one file, to go through once.

    Afterwards: ``end``, the byte where the last of them ends; ``top``, the largest document id, or
    -1; ``torn``: what an interrupted append left behind it (empty if just the closing `}}` is not
    as it should be), or None; ``appendable``: apart from ``torn``, the file ends in these documents
    and a plain `}}`. Raises DatabaseUnusable if this is no TinyDB file, OSError.
    """

    def __init__(self, path: Path, at: int = 0, file: BinaryIO | None = None) -> None:
        """``at``: 0, or where one of the documents begins; ``file``: ``path``, if open already."""
        self.path, self.end, self._file = path, at, file
        self.top = -1
        self.torn: bytes | None = None
        self.appendable = False

    def __iter__(self) -> Iterator[Entry]:
        with ExitStack() as stack:
            file = self._file or stack.enter_context(self.path.open("rb"))
            broken_at = -1
            while True:
                window = _Window(file, self.end)
                try:
                    yield from self._tables(window)
                    whole = window.take(_NOTHING) is not None
                except _Broken:
                    whole = False
                file.seek(self.end)
                tail = file.read() if self.appendable else b""
                if whole or (self.appendable and is_torn(tail, self.end)):
                    break
                if broken_at == window.start:
                    raise DatabaseUnusable(
                        f"{self.path} is damaged, or a file of another program: no TinyDB document "
                        f"at byte {broken_at}; restore it from a copy, or name another file"
                    )
                broken_at = window.start  # a writer may have gone on meanwhile: look once more
        self.appendable &= not whole or tail.startswith(CLOSE)
        if self.appendable and tail != CLOSE:
            self.torn = tail.removeprefix(CLOSE).rstrip(b"\r\n")

    def _tables(self, window: _Window) -> Iterator[Entry]:
        pattern = _TABLE
        if self.end:
            # The last table is the one that can be appended to.
            self.appendable = True
            yield from self._documents(window, _KEY if window.is_first else _NEXT_KEY)
            pattern = _NEXT_TABLE
        elif window.is_empty:
            return
        else:
            window.need(_OPEN)
        while found := window.take(pattern):
            name = json.loads(f'"{found[1]}"'.encode("latin-1"))
            self.appendable = name == IMAGES
            if self.appendable:
                self.end = window.at
                yield from self._documents(window, _KEY)
            else:
                for _ in window.documents(_KEY):
                    pass
            pattern = _NEXT_TABLE
        window.need(_END)

    def _documents(self, window: _Window, key: re.Pattern[str]) -> Iterator[Entry]:
        try:
            yield from window.documents(key)
        finally:
            self.end, self.top = window.start, max(self.top, window.top)


def task_id_of(record: Mapping[str, Any]) -> str | None:
    """The task a record is for, or None if it is for none, or if that is no text."""
    task_id = record.get("task_id")
    return task_id if isinstance(task_id, str) else None


def read_document(path: Path, at: int) -> dict[str, Any] | None:
    """The document that begins at this byte (see `Entry`), or None if none does.

    Raises OSError if the file cannot be read.
    """
    try:
        inside = 0 < at < path.stat().st_size
        entry = next(iter(Documents(path, at)), None) if inside else None
    except (FileNotFoundError, DatabaseUnusable):
        return None
    return entry.document if entry else None


def read_records(path: Path, *, family: bool = True) -> Iterator[dict[str, Any]]:
    """The records in time order, in small memory and without a lock: of all files that rotation
    made of ``path``, or of this one file only.

    A torn tail is passed over, and the log says so. While a worker writes, the record under way may
    be missing. Raises DatabaseUnusable for a file that is missing, unreadable, damaged or of
    another program.
    """
    path = path.resolve()
    try:
        with path.open("rb") as current:
            # A rotation after the file was opened gives it another name: it must not come twice.
            itself = os.fstat(current.fileno())
            for older in rotated_files(path) if family else ():
                if not os.path.samestat(older.stat(), itself):
                    yield from _records(Documents(older))
            yield from _records(Documents(path, file=current))
    except OSError as error:
        raise DatabaseUnusable(f"{path}: cannot read it: {error.strerror}") from error


def _records(documents: Documents) -> Iterator[dict[str, Any]]:
    for entry in documents:
        yield entry.document
    if documents.torn:
        logger.warning(
            "%s: an append is under way, or was interrupted (%d bytes, passed over); "
            "if no worker runs, results --verify mends the file",
            documents.path,
            len(documents.torn),
        )


def follow_records(paths: Sequence[Path], wait: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """As `read_records` of one file after the other, and then what comes to any of them, across
    rotations, while ``wait`` returns True.

    ``wait`` is called before each look for more. Raises DatabaseUnusable, as `read_records` does.
    """
    places: dict[tuple[int, int], Entry] = {}  # by file, whatever rotation calls it meanwhile
    paths = [path.resolve() for path in paths]
    while True:
        try:
            for part in (part for path in paths for part in (*rotated_files(path), path)):
                with part.open("rb") as file:
                    status = os.fstat(file.fileno())
                    identity = status.st_dev, status.st_ino
                    last = places.get(identity)
                    for entry in Documents(part, last.at if last else 0, file):
                        if last is None or entry.at > last.at:
                            places[identity] = entry
                            yield entry.document
        except OSError as error:
            raise DatabaseUnusable(f"{error.filename}: cannot read it: {error.strerror}") from error
        if not wait():
            return
