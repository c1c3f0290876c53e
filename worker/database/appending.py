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
from collections.abc import Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

from tinydb import TinyDB
from tinydb.storages import Storage
from tinydb.table import Document, Table

from worker.database.locks import lock_handle
from worker.database.reader import CLOSE, IMAGES, Documents
from worker.database.rotation import rotated_name, undo_rotation

logger = logging.getLogger(__name__)

HEAD = b'{"images": {'


class AppendStorage(Storage):
    """The JSON file of one writer, locked while it is open. Call `resume` before `append`.

    ``end``: the byte where its closing `}}` begins; ``top``: the largest document id, -1 if there
    is none.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path``; it is made if it is missing or empty. Raises DatabaseUnusable if another
        writer has it, OSError."""
        self.path = path
        self.end, self.top = len(HEAD), -1
        self._spoiled = False
        if path.exists() and path.stat().st_size:
            self._handle = _open_locked(path)
        else:
            self._handle = _write_whole(path, HEAD + CLOSE)

    def read(self) -> dict[str, dict[str, Any]] | None:
        """All tables."""
        tables: dict[str, dict[str, Any]] = json.loads(self.path.read_bytes())
        return tables

    def write(self, data: dict[str, dict[str, Any]]) -> None:
        """Replace all tables; "images" comes last. At every moment the old or the new file is
        there. Raises OSError."""
        images = data.get(IMAGES, {})
        others = {name: table for name, table in data.items() if name != IMAGES}
        content = json.dumps({**others, IMAGES: images}).encode()
        fresh = _write_whole(self.path, content)
        self._handle.close()
        self._handle = fresh
        self.end, self.top = len(content) - len(CLOSE), max(map(int, images), default=-1)

    def resume(self, documents: Documents, top: int) -> None:
        """Go on behind the last whole one of ``documents``; what is torn is cut off, and kept in
        `<name>.torn`. Raises OSError."""
        self.end, self.top = documents.end, top
        if documents.torn:
            self._set_aside(documents.torn)
        if documents.torn is not None:
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

    def is_in_place(self) -> bool:
        """Whether the path still leads to this file, and nobody else has cut or grown it."""
        if self._handle.closed or not self.path.exists():
            return False
        status = self.path.stat()
        own = os.fstat(self._handle.fileno())
        whole = self._spoiled or own.st_size == self.end + len(CLOSE)
        return os.path.samestat(status, own) and whole

    def append(self, document: str) -> int:
        """Append a document, given as JSON, durably; returns its id.

        Raises OSError if the disk refuses; the file is then as it was.
        """
        if self._spoiled:
            self._restore()
        separator, number = (", ", self.top + 1) if self.top >= 0 else ("", 1)
        data = f'{separator}"{number}": {document}'.encode()
        try:
            self._write(data + CLOSE)
        except BaseException:
            self._undo()
            raise
        self.end += len(data)
        self.top = number
        return number

    def _write(self, data: bytes) -> None:
        self._handle.seek(self.end)
        _write_all(self._handle, data)

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

    def rotate(self) -> Path:
        """Give the file another name, which is returned, and begin a new one. Raises OSError; the
        file is then as it was."""
        target = rotated_name(self.path)
        try:
            try:
                target.hardlink_to(self.path)  # so that no reader ever misses the file
            except (OSError, NotImplementedError):
                self.path.replace(target)
            self.write({IMAGES: {}})
        except OSError:
            undo_rotation(self.path)
            raise
        return target

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

    def __init__(self, path: Path) -> None:
        super().__init__(path, storage=AppendStorage)

    @property
    def storage(self) -> AppendStorage:
        """The file."""
        assert isinstance(self._storage, AppendStorage)
        return self._storage


def _open_locked(path: Path) -> FileIO:
    handle = path.open("r+b", buffering=0)
    try:
        lock_handle(handle, path)
    except BaseException:
        handle.close()
        raise
    return handle


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
    # This makes the rename durable where a folder can be opened, which is not so on Windows.
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
