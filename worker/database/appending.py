"""TinyDB with a storage and a table of ours, plugged in at the places that it has for them.

TinyDB's file ends in `}}` behind the last document of its last table. While that table is "images",
`insert` replaces just this ending, by one positioned write and one fsync, so it costs the same at
any size. Everything else that TinyDB can do still works, and writes the file as a whole; the worker
does none of it.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

from tinydb import TinyDB
from tinydb.storages import Storage
from tinydb.table import Document, Table

from worker.database.locks import lock_handle
from worker.database.reader import CLOSE, IMAGES, Documents
from worker.database.rotation import undo_rotation
from worker.errors import DatabaseUnusable

logger = logging.getLogger(__name__)

HEAD = b'{"images": {'


class AppendStorage(Storage):
    """The JSON file of one writer, locked while it is open. Call `resume` before `append`.

    ``end``: the byte where its closing `}}` begins; ``top``: the largest document id, -1 if there
    is none.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path``; it is made if it is missing or empty. Raises DatabaseUnusable if another
        writer has it or it is a folder, a device or the like, OSError."""
        if path.exists() and not path.is_file():  # a new file would take its place
            what = "no ordinary file but a directory, a device or the like"
            raise DatabaseUnusable(f"cannot use {path}: it is {what}")
        self.path = path
        self.end, self.top = len(HEAD), -1
        if path.exists() and path.stat().st_size:
            self._handle = path.open("r+b", buffering=0)
            lock_handle(self._handle, path)
        else:
            self._handle = _write_whole(path, HEAD + CLOSE)

    def read(self) -> dict[str, dict[str, Any]]:
        """All tables."""
        return dict(json.loads(self.path.read_bytes()))

    def write(self, data: dict[str, dict[str, Any]]) -> None:
        """Replace all tables; "images" comes last. At every moment the old or the new file is
        there. Raises OSError."""
        tables = dict(data)
        images = tables[IMAGES] = tables.pop(IMAGES, {})
        content = json.dumps(tables).encode()
        former, self._handle = self._handle, _write_whole(self.path, content)
        former.close()
        self.end, self.top = len(content) - len(CLOSE), max(map(int, images), default=-1)

    def resume(self, documents: Documents) -> None:
        """Go on behind the last whole one of ``documents``; what is torn is cut off, and kept in
        `<name>.torn`. Raises OSError."""
        self.end, self.top = documents.end, documents.top
        if documents.torn:
            kept = self.path.with_name(f"{self.path.name}.torn")
            message = "%s: an append was interrupted; its %d bytes were moved to %s"
            logger.warning(message, self.path, len(documents.torn), kept)
            # They are of a record that nobody was told is stored: a full disk must not keep them.
            with suppress(OSError), kept.open("ab") as file:
                file.write(documents.torn + b"\n")
        if documents.torn is not None:
            self._restore()

    def is_in_place(self) -> bool:
        """Whether the path still leads to this file, and it is as long as it was left."""
        if self._handle.closed or not self.path.exists():
            return False
        status = os.fstat(self._handle.fileno())
        is_whole = status.st_size == self.end + len(CLOSE)
        return is_whole and os.path.samestat(status, self.path.stat())

    def append(self, document: str) -> int:
        """Append a document, given as JSON, durably; returns its id.

        Raises OSError if the disk refuses; the file is then as it was.
        """
        separator, number = (", ", self.top + 1) if self.top >= 0 else ("", 1)
        data = f'{separator}"{number}": {document}'.encode()
        with self.changes():
            self._handle.seek(self.end)
            _write_all(self._handle, data + CLOSE)
            self.end += len(data)
            self.top = number
        return number

    @contextmanager
    def changes(self) -> Iterator[None]:
        """Of what is appended within, all is kept or, after an error, nothing."""
        before = self.end, self.top
        try:
            yield
        except BaseException:
            self.end, self.top = before
            try:
                self._restore()
            except OSError as error:  # the next append will find it so, as after a crash
                logger.error("%s: cannot be put back yet: %s", self.path, error.strerror)
            raise

    def _restore(self) -> None:
        self._handle.seek(self.end)
        _write_all(self._handle, CLOSE)
        self._handle.truncate()
        os.fsync(self._handle.fileno())

    def rotate(self, target: Path) -> None:
        """Give the file this other name, and begin a new one. Raises OSError; the file is then as
        it was."""
        try:
            try:
                target.hardlink_to(self.path)  # so that no reader ever misses the file
            except (OSError, NotImplementedError):
                self.path.replace(target)
            self.write({})
        except OSError:
            undo_rotation(self.path)
            raise

    def close(self) -> None:
        """Close the file, which gives its lock back; nothing is left to be written."""
        self._handle.close()


class AppendTable(Table):
    """A table of TinyDB; of "images" an insert takes the same time at any size."""

    _storage: AppendStorage

    def insert(self, document: Mapping[str, Any]) -> int:
        """Append a document; returns its id.

        Raises ValueError or TypeError for what JSON cannot hold, NaN included, and OSError.
        """
        if self.name != IMAGES or isinstance(document, Document):
            return super().insert(document)
        number = self._storage.append(json.dumps(dict(document), allow_nan=False))
        self.clear_cache()
        return number


class AppendTinyDB(TinyDB):
    """The database of one writer: `AppendTinyDB(path).table("images").insert(record)`."""

    table_class = AppendTable
    default_table_name = IMAGES
    default_storage_class = AppendStorage  # type: ignore[assignment]  # TinyDB says JSONStorage
    storage: AppendStorage


def _write_whole(path: Path, content: bytes) -> FileIO:
    """Put a file of this content at ``path``; returns it open, and locked before it is there."""
    temporary = path.with_name(f"{path.name}.tmp")
    handle = temporary.open("wb", buffering=0)
    try:
        lock_handle(handle, path)
        _write_all(handle, content)
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
    except BaseException:
        handle.close()
        raise
    # This makes the rename durable if a folder can be opened, which is not so on Windows.
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return handle


def _write_all(handle: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[handle.write(view) :]
    os.fsync(handle.fileno())
