"""Reading the JSON file: its documents one by one, in small memory, and where each one stands.

Any file that TinyDB takes is read here, whatever its tables and its white space.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from worker.errors import DatabaseUnusable

IMAGES = "images"
HEAD = b'{"images": {'
CHUNK = 1 << 16  # bytes read at once, also the most that is parsed to find one record
LONGEST_KEY = 1 << 12  # bytes

_NAME = r'"((?:[^"\\]|\\.)*)"'
_OPEN, _END = re.compile(r"\s*\{"), re.compile(r"\s*\}")
_TABLE = re.compile(rf"\s*{_NAME}\s*:\s*\{{")
_NEXT_TABLE = re.compile(rf"\s*,\s*{_NAME}\s*:\s*\{{")
_KEY = re.compile(r'\s*"(\d{1,18})"\s*:\s*(?=\{)')
_NEXT_KEY = re.compile(r'\s*,\s*"(\d{1,18})"\s*:\s*(?=\{)')
# What one append can leave behind the last whole document: a part of itself, a brace of what was
# there, zeros that a power cut leaves; or a whole ending and a rest.
_TORN = re.compile(r'(?s)(?:, ?)?(?:"\d*(?:"(?::(?: (?:\{.*)?)?)?)?)?\}?(?:\0.*)?|\}\}.*')
_BOUNDARY = re.compile(rb'\}, "(\d+)": \{')
_FIRST = re.compile(rb'(?:, )?"(\d+)": \{')
_TASK = re.compile(rb'"task_id": ("[^"\\]*(?:\\.[^"\\]*)*")')
_decode = json.JSONDecoder().raw_decode


class Entry(NamedTuple):
    """A document (or, where ``doc_id`` is None, a table's opening) at bytes ``at`` to ``end``.

    ``at`` lies before the separator and the key: it is the end of what stands before.
    """

    table: str
    doc_id: int | None
    at: int
    end: int
    document: dict[str, Any]


class Block(NamedTuple):
    """One or more documents of "images" that lie together, with the task ids found in them.

    ``task_ids``: a JSON array. In a large block one may belong to a nested object, which
    `find_record` tells. ``top``: the largest document id.
    """

    at: int
    size: int
    task_ids: bytes
    top: int


class Broken(Exception):
    """Raised where the file is no TinyDB file; ``torn``: as one append under way can leave it."""

    def __init__(self, at: int, *, torn: bool) -> None:
        super().__init__(at)
        self.at = at
        self.torn = torn


class _Window:
    """A stretch of the file as text, one character a byte, read again from ``mark`` as needed, so
    that what a writer has replaced meanwhile is seen as a whole."""

    def __init__(self, file: BinaryIO, at: int) -> None:
        self._file = file
        self._base = at
        self.pos = self.mark = 0
        self.table: str | None = IMAGES if at else None
        self._fill(CHUNK)

    def _fill(self, size: int) -> None:
        self._base += self.mark
        self.pos -= self.mark
        self.mark = 0
        self._file.seek(self._base)
        self.text = self._file.read(size).decode("latin-1")
        self._complete = len(self.text) < size

    @property
    def at(self) -> int:
        return self._base + self.pos

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        if len(self.text) - self.pos < LONGEST_KEY and not self._complete:
            self._fill(CHUNK)
        found = pattern.match(self.text, self.pos)
        if found:
            self.pos = found.end()
        return found

    def need(self, pattern: re.Pattern[str]) -> None:
        if not self.take(pattern):
            raise self.broken()

    def value(self) -> dict[str, Any]:
        size = CHUNK
        document: dict[str, Any]
        while True:
            try:
                document, end = _decode(self.text, self.pos)
                if not self.text.isascii():
                    document = json.loads(self.text[self.pos : end].encode("latin-1"))
            except (ValueError, RecursionError):
                if self._complete:
                    raise self.broken() from None
                size *= 4
                self._fill(size)
            else:
                self.pos = end
                return document

    def broken(self) -> Broken:
        rest = self.text[self.mark :]
        torn = (
            self._complete
            and self.table == IMAGES
            and _TORN.fullmatch(rest) is not None
            and _BOUNDARY.search(rest.encode("latin-1")) is None
        )
        return Broken(self._base + self.mark, torn=torn)


def walk(file: BinaryIO, at: int = 0) -> Iterator[Entry]:
    """Every table and document, exactly, in small memory and whatever the white space.

    ``at``: 0, or where a document of "images" or this table's opening brace ends. Raises Broken.
    """
    window = _Window(file, at)
    if at:
        file.seek(at - 1)
        yield from _documents(window, IMAGES, first=file.read(1) == b"{")
    elif not window.text:
        return
    else:
        window.need(_OPEN)
    pattern = _NEXT_TABLE if at else _TABLE
    while found := window.take(pattern):
        window.table = json.loads(f'"{found[1]}"'.encode("latin-1"))
        yield Entry(window.table, None, window.at, window.at, {})
        yield from _documents(window, window.table, first=True)
        pattern = _NEXT_TABLE
    window.need(_END)


def _documents(window: _Window, table: str, *, first: bool) -> Iterator[Entry]:
    key = _KEY if first else _NEXT_KEY
    while True:
        window.mark = window.pos
        at = window.at
        found = window.take(key)
        if not found:
            window.need(_END)
            return
        document = window.value()
        yield Entry(table, int(found[1]), at, window.at, document)
        key = _NEXT_KEY


def scan(file: BinaryIO, at: int = 0) -> Iterator[Block]:
    """All documents of "images" from ``at`` on (as in `walk`), fast where TinyDB wrote them.

    The first block of a whole file is empty and says where the table begins. Raises Broken.
    """
    if not at and file.read(len(HEAD)) == HEAD:
        at = len(HEAD)
        yield Block(at, 0, b"[]", 0)
    if at:
        for block in _large_blocks(file, at):
            yield block
            at = block.at + block.size
    for entry in walk(file, at):
        if entry.table == IMAGES:
            task_ids = json_task_ids([entry.document])
            yield Block(entry.at, entry.end - entry.at, task_ids, entry.doc_id or 0)


def _large_blocks(file: BinaryIO, at: int) -> Iterator[Block]:
    """Blocks of nearly CHUNK bytes; ends early where something needs a closer look.

    Parsing a million documents takes most of the time that an open may take. So a block whose
    number of separators agrees with its document ids is only searched; any other one is parsed.
    """
    while True:
        file.seek(at)
        text = file.read(CHUNK)
        first, last, cut = _FIRST.match(text), None, len(text)
        while last is None and (cut := text.rfind(b'}, "', 0, cut)) > 0:
            last = _BOUNDARY.match(text, cut)
        if len(text) < CHUNK or first is None or last is None:
            return
        block, top = text[: cut + 1], int(last[1]) - 1
        separators = block.count(b'}, "') - block.count(b'}, "task_id": ')
        try:
            if separators == top - int(first[1]) and block.isascii():
                task_ids = b"[%b]" % b",".join(_TASK.findall(block))
            else:
                documents = _parse(block)
                task_ids = json_task_ids(documents.values())
                top = max(map(int, documents))
        except (ValueError, AttributeError):
            return
        yield Block(at, len(block), task_ids, top)
        at += len(block)


def _parse(block: bytes) -> dict[str, dict[str, Any]]:
    documents: dict[str, dict[str, Any]] = json.loads(b"{%b}" % block.lstrip(b", \t\r\n"))
    return documents


def task_id_of(record: Mapping[str, Any]) -> str | None:
    """The task a record is for, or None where it is for none, or where that is no text."""
    task_id = record.get("task_id")
    return task_id if isinstance(task_id, str) else None


def json_task_ids(records: Iterable[Mapping[str, Any]]) -> bytes:
    """The task ids of those records that have one, as a JSON array."""
    found = map(task_id_of, records)
    return json.dumps([task_id for task_id in found if task_id is not None]).encode()


def find_record(path: Path, at: int, size: int, task_id: str) -> dict[str, Any] | None:
    """The record of ``task_id`` inside a block of the file, or None where there is none.

    Raises OSError where the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(at)
            documents = _parse(file.read(size))
        return next((d for d in documents.values() if d.get("task_id") == task_id), None)
    except (FileNotFoundError, ValueError, AttributeError):
        return None


def read_records(path: Path, *, family: bool = True) -> Iterator[dict[str, Any]]:
    """The records in time order, in small memory and without a lock: of all files that rotation
    made of ``path``, or of this one file only.

    While a worker writes, the record under way may be missing. Raises DatabaseUnusable for a file
    that is missing, unreadable, damaged or of another program.
    """
    path = path.resolve()
    try:
        with path.open("rb") as current:
            # A rotation after the file was opened gives it another name: it must not come twice.
            itself = os.fstat(current.fileno())
            for older in rotated_files(path) if family else ():
                if not os.path.samestat(older.stat(), itself):
                    with older.open("rb") as file:
                        yield from _records(file, older)
            yield from _records(current, path)
    except OSError as error:
        raise DatabaseUnusable(f"{path}: cannot read it: {error.strerror}") from error


def follow_records(paths: Sequence[Path], wait: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """As `read_records` of one file after the other, and then what comes to any of them, across
    rotations, while ``wait`` returns True.

    ``wait`` is called before each look for more. Raises DatabaseUnusable, as `read_records` does.
    """
    ends: dict[tuple[int, int], int] = {}  # by file, whatever rotation calls it meanwhile
    paths = [path.resolve() for path in paths]
    while True:
        try:
            for part in (part for path in paths for part in (*rotated_files(path), path)):
                with part.open("rb") as file:
                    status = os.fstat(file.fileno())
                    identity = status.st_dev, status.st_ino
                    for entry in _entries(file, part, ends.get(identity, 0)):
                        ends[identity] = entry.end
                        yield entry.document
        except OSError as error:
            raise DatabaseUnusable(f"{error.filename}: cannot read it: {error.strerror}") from error
        if not wait():
            return


def _records(file: BinaryIO, path: Path) -> Iterator[dict[str, Any]]:
    return (entry.document for entry in _entries(file, path, 0))


def _entries(file: BinaryIO, path: Path, at: int) -> Iterator[Entry]:
    try:
        for entry in walk(file, at):
            if entry.table == IMAGES and entry.doc_id is not None:
                yield entry
    except Broken as broken:
        if not broken.torn:
            raise unusable(path, broken) from None


def unusable(path: Path, broken: Broken) -> DatabaseUnusable:
    """The error that tells a person where the file stops being a TinyDB file."""
    return DatabaseUnusable(
        f"{path} is damaged, or a file of another program: no TinyDB document at byte {broken.at}; "
        "restore it from a copy, or name another file"
    )


def rotated_files(path: Path) -> list[Path]:
    """The files that rotation made of ``path``, oldest first."""
    name = re.compile(rf"{re.escape(path.stem)}\.\d{{8}}T\d{{6}}\.\d{{6}}Z{re.escape(path.suffix)}")
    return sorted(file for file in path.parent.iterdir() if name.fullmatch(file.name))
