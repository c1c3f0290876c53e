"""Appending to the JSON file: its tail is mended, replaced, and put back where the disk refuses.

TinyDB's file ends in `}}` behind the last document of its last table. While that table is "images",
an append replaces just this ending, so it costs the same at any size. `rewrite` brings any other
form of a TinyDB file into this one.
"""

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from worker.database.reader import HEAD, IMAGES, Block, Broken, rotated_files, scan, unusable
from worker.errors import DatabaseUnusable

logger = logging.getLogger(__name__)

CLOSE = b"}}"
ANCHOR = 64  # bytes before the ending by which a file is recognised
STAMP = "%Y%m%dT%H%M%S.%fZ"
UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True)
class Rotation:
    """When a new file is begun: in a new month (UTC), or before one exceeds ``max_bytes``."""

    monthly: bool = False
    max_bytes: int | None = None

    def is_due(self, size: int, before: str, now: str) -> bool:
        """Whether to begin a new file: the old one would grow to ``size`` bytes, and was last
        written to in month ``before`` (see `month_of`)."""
        too_large = self.max_bytes is not None and size > self.max_bytes
        return too_large or (self.monthly and before != now)


NEVER = Rotation()


def parse_rotation(text: str) -> Rotation:
    """`never`, `monthly`, or a size such as `100 MB` (kB, MB, GB; powers of ten).

    Raises ValueError for anything else.
    """
    if text in ("never", "monthly"):
        return Rotation(monthly=text == "monthly")
    found = re.fullmatch(r"([1-9]\d*) ?(kB|MB|GB)", text)
    if not found:
        raise ValueError(f"{text!r} is neither never nor monthly nor a size such as 100 MB")
    return Rotation(max_bytes=int(found[1]) * UNITS[found[2]])


def month_of(timestamp: float) -> str:
    """Year and month, UTC, of seconds since the epoch."""
    return time.strftime("%Y-%m", time.gmtime(timestamp))


@dataclass
class Survey:
    """Goes through the documents of ``path`` from ``end`` on; then tells how the file ends.

    Afterwards ``end`` is where the last document ends and ``top`` the largest document id,
    ``torn`` what an interrupted append left behind it in place of the ending or after it, or None.
    ``appendable``: "images" is the last table and, apart from ``torn``, ends in a plain `}}`.
    Raises DatabaseUnusable.
    """

    path: Path
    end: int = 0
    top: int = 0
    torn: bytes | None = field(default=None, init=False)
    appendable: bool = field(default=False, init=False)

    def __iter__(self) -> Iterator[Block]:
        whole = True
        with self.path.open("rb") as file:
            try:
                for block in scan(file, self.end):
                    self.end = block.at + block.size
                    self.top = max(self.top, block.top)
                    yield block
            except Broken as broken:
                if not broken.torn:
                    raise unusable(self.path, broken) from None
                whole = False
            file.seek(self.end)
            rest = file.read()
        self.appendable = not whole or (self.end > 0 and rest.startswith(CLOSE))
        if self.appendable and rest != CLOSE:
            self.torn = rest.removeprefix(CLOSE)

    def anchor(self) -> bytes:
        """The last bytes before ``end``, by which the file is recognised later."""
        return read_anchor(self.path, self.end)


def read_anchor(path: Path, end: int) -> bytes:
    """The last bytes of the file before byte ``end``."""
    with path.open("rb") as file:
        file.seek(max(0, end - ANCHOR))
        return file.read(min(end, ANCHOR))


class RecordFile:
    """The file that is appended to. ``end``: the byte where its closing `}}` begins."""

    def __init__(self, survey: Survey) -> None:
        """Open the file that ``survey`` found appendable. Cuts off what is torn, keeping it in
        `<name>.torn`. Raises OSError."""
        self.path, self.end, self.top = survey.path, survey.end, survey.top
        self.anchor = survey.anchor()
        self._spoiled = False
        self._handle = self.path.open("r+b", buffering=0)
        if survey.torn:
            self._set_aside(survey.torn)
        if survey.torn is not None:
            self._restore()

    def _set_aside(self, torn: bytes) -> None:
        kept = self.path.with_name(f"{self.path.name}.torn")
        message = "%s: an append was interrupted; its %d bytes were moved to %s"
        try:
            with kept.open("ab") as file:
                file.write(torn + b"\n")
                os.fsync(file.fileno())
        except OSError as error:
            # They are of a record that nobody was told is stored: a full disk must not keep them.
            message = f"{message}, or lost ({error.strerror})"
        logger.warning(message, self.path, len(torn), kept)

    @property
    def empty(self) -> bool:
        """Whether "images" holds no document."""
        return self.anchor.endswith(b"{")

    def append(self, texts: Sequence[str]) -> tuple[int, int]:
        """Append the documents whose JSON is in ``texts``, with one write; durable on return.

        Returns place and size of all together. Raises OSError where the disk refuses; the file is
        then as it was.
        """
        if self._spoiled:
            self._restore()
        numbered = [f'"{number}": {text}' for number, text in enumerate(texts, self.top + 1)]
        data = ("" if self.empty else ", ").encode() + ", ".join(numbered).encode()
        try:
            self._write(data + CLOSE)
        except BaseException:
            self._undo()
            raise
        at, self.end = self.end, self.end + len(data)
        self.top += len(texts)
        self.anchor = (self.anchor + data)[-ANCHOR:]
        return at, len(data)

    def _write(self, data: bytes) -> None:
        self._handle.seek(self.end)
        view = memoryview(data)
        while view:
            view = view[self._handle.write(view) :]
        os.fsync(self._handle.fileno())

    def _undo(self) -> None:
        self._spoiled = True
        try:
            self._restore()
        except OSError as error:
            logger.error("%s: cannot be put back yet: %s", self.path, error.strerror)

    def _restore(self) -> None:
        self._write(CLOSE)
        self._handle.truncate(self.end + len(CLOSE))
        os.fsync(self._handle.fileno())
        self._spoiled = False

    def rotate(self, target: Path) -> None:
        """Give the file the name ``target`` and begin a new one. Raises OSError; the file is then
        as it was."""
        fresh = _write_temporary(self.path, HEAD + CLOSE)
        self._handle.close()
        try:
            try:
                target.hardlink_to(self.path)  # so that no reader ever misses the file
            except (OSError, NotImplementedError):
                self.path.replace(target)
            fresh.replace(self.path)
            self.end, self.top, self.anchor = len(HEAD), 0, HEAD
        except OSError:
            undo_rotation(self.path)
            raise
        finally:
            self._handle = self.path.open("r+b", buffering=0)
        _sync_folder(self.path)

    def close(self) -> None:
        """Close the file; nothing is left to be written."""
        self._handle.close()


def rotated_name(path: Path) -> Path:
    """A name for the file as it is now: later than all others even where the clock went back."""
    now = datetime.now(UTC)
    if older := rotated_files(path):
        text = older[-1].name.removeprefix(f"{path.stem}.").removesuffix(path.suffix)
        last = datetime.strptime(text, STAMP).replace(tzinfo=UTC)
        now = max(now, last + timedelta(microseconds=1))
    return path.with_name(f"{path.stem}.{now.strftime(STAMP)}{path.suffix}")


def undo_rotation(path: Path) -> None:
    """Take back a rotation that was interrupted before the new file was there. Raises OSError."""
    for latest in rotated_files(path)[-1:]:
        if not path.exists():
            latest.replace(path)
        elif latest.samefile(path):
            latest.unlink()


def rewrite(path: Path) -> None:
    """Bring ``path`` into the form that appends need, keeping all tables and documents; also makes
    a missing or empty file. At every moment one of the two forms is there.

    Raises DatabaseUnusable for what is not JSON, OSError."""
    try:
        tables = json.loads(path.read_bytes() or b"{}") if path.exists() else {}
    except ValueError as error:
        raise DatabaseUnusable(f"{path} is damaged: {error}; restore it from a copy") from error
    images = tables.pop(IMAGES, {})
    content = json.dumps({**tables, IMAGES: images}).encode()
    _write_temporary(path, content).replace(path)
    _sync_folder(path)


def _write_temporary(path: Path, content: bytes) -> Path:
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        shutil.copymode(path, temporary)
    return temporary


def _sync_folder(path: Path) -> None:
    """Make a rename durable, on systems where a folder can be opened (not on Windows)."""
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def lock(path: Path) -> BaseFileLock:
    """Keep other writers away from ``path`` until the lock is released.

    Raises DatabaseUnusable where another process, which it names, or another part of this one has
    it; OSError where the folder cannot be written to.
    """
    file = path.with_name(f"{path.name}.lock")
    taken = FileLock(file, timeout=0, thread_local=False)
    try:
        taken.acquire()
    except Timeout:
        raise DatabaseUnusable(
            f"{path} is in use by another worker ({_holder(file)}); stop it, or name another file"
        ) from None
    # Where a file system has no locks, filelock turns to one that writes the process id itself.
    if isinstance(taken, FileLock):
        with suppress(OSError):
            file.write_text(f"{os.getpid()}\n")
    return taken


def _holder(file: Path) -> str:
    with suppress(OSError):
        if words := file.read_text().split():
            return f"process {words[0]}"
    return "process unknown"
