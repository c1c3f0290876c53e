"""The results: a TinyDB file that costs the same to append to at any size and survives any end.

    results.json                      the records; at every moment a file that TinyDB opens
    results.<UTC time>.json           earlier ones, if `[database] rotate` asks for it
    results.json.index                where each record stands, and whether it was posted
    results.json.lock                 one writer at a time; holds its process id
    results.json.torn                 what a crash cut short

The JSON is made durable first and the index follows. What the index misses is found in the file at
the next open, so neither a crash between the two nor a lost index loses or doubles a record.
"""

import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from worker.database.appending import AppendTinyDB
from worker.database.index import Index
from worker.database.locks import lock
from worker.database.reader import CLOSE, IMAGES, task_id_of
from worker.database.rotation import NEVER, Rotation, rotated_files, rotated_name, undo_rotation
from worker.database.told import MADE_AGAIN, Disagrees, Known, Owed, can_wait
from worker.database.verification import Verification
from worker.errors import DatabaseUnusable, DiskRefuses

logger = logging.getLogger(__name__)

SEPARATOR = 50  # bytes at most between two documents, the number of the second one included

P = ParamSpec("P")
T = TypeVar("T")


def _visit(
    method: Callable[Concatenate["Database", P], T],
) -> Callable[Concatenate["Database", P], T]:
    """One thread at a time; an index that turns out to be wrong is made again, and the disk may
    refuse."""

    @wraps(method)
    def call(self: "Database", /, *values: P.args, **named: P.kwargs) -> T:
        with self._mutex:
            try:
                try:
                    return method(self, *values, **named)
                except sqlite3.Error as error:
                    if can_wait(error):
                        raise
                    logger.error(MADE_AGAIN, self._sidecar, error)
                    self._index.is_sound &= isinstance(error, Disagrees)
                    self._reopen()
                    return method(self, *values, **named)
            except (OSError, sqlite3.Error) as error:
                raise self._refused(error) from error

    return call


class Database:
    """The records of one worker. Safe to use from several threads; a context manager.

    ``tinydb``: the TinyDB that holds them.
    """

    def __init__(self, path: Path, *, rotation: Rotation = NEVER, owe: bool = False) -> None:
        """Open ``path``, made if it is missing: lock, repair, index what the index misses.

        ``owe``: records with a task id are owed to the server, those that an earlier process
        stored without noting it included. Raises DatabaseUnusable; DiskRefuses if the disk is full.
        """
        self.path = path.resolve()
        self._sidecar = self.path.with_name(f"{self.path.name}.index")
        self.owe = owe
        self._rotation = rotation
        self._mutex = threading.RLock()
        self._torn_bytes: int | None = None
        if not self.path.parent.is_dir():
            raise DatabaseUnusable(f"cannot use {path}: there is no folder {self.path.parent}")
        try:
            with ExitStack() as stack:
                self._lock = lock(self.path)
                stack.callback(self._lock.release)
                undo_rotation(self.path)
                # The file is locked before anything beside it is touched.
                self.tinydb = AppendTinyDB(self.path)
                stack.callback(lambda: self.tinydb.close())
                self._index = Index(self._sidecar)
                stack.callback(lambda: self._index.close())
                self._catch_up()
                self._stack = stack.pop_all()
        except (OSError, sqlite3.Error) as error:
            if can_wait(error):
                raise self._refused(error) from error
            reason = getattr(error, "strerror", None) or error
            raise DatabaseUnusable(f"cannot use {path}: {reason}") from error

    def _refused(self, error: OSError | sqlite3.Error) -> DiskRefuses:
        if isinstance(error, OSError):
            return DiskRefuses(f"cannot write {self.path}: {error.strerror}; waiting")
        return DiskRefuses(f"cannot write {self._sidecar}: {error}; waiting")

    def _family(self) -> list[Path]:
        return [*rotated_files(self.path), self.path]

    def _catch_up(self, *, rebuild: bool = False) -> None:
        """Bring the index up to date with the files, mend the tail of the one that is open."""
        if rebuild or not self._index.agrees(self._family()):
            self._index.rebuild(self._family())
        documents = self._index.extend(self.path, owe=self.owe)
        if not documents.appendable:
            logger.info("%s: bringing it into the form that appends need", self.path)
            self.tinydb.storage.write(self.tinydb.storage.read())
            self._catch_up(rebuild=True)
            return
        if documents.torn is not None:
            self._torn_bytes = len(documents.torn)
        self.tinydb.storage.resume(documents)

    def _reopen(self) -> None:
        """Go on with the file that stands at the path now. Raises ValueError after `close`."""
        if not self._lock.is_locked:  # another worker may have it by now
            raise ValueError(f"{self.path} is closed")
        try:
            self.tinydb.close()
            self.tinydb = AppendTinyDB(self.path)
            self._catch_up(rebuild=True)
        except DatabaseUnusable as error:
            # What is in hand is kept, and a person can put the file right.
            self.tinydb.close()
            raise DiskRefuses(f"{error}; waiting") from error

    @_visit
    def append(
        self,
        record: Mapping[str, Any],
        *,
        lease_id: str | None = None,
        digest: str | None = None,
    ) -> bool:
        """Store a record, durably on return; it is owed if ``owe`` and it has a task id.

        ``digest``: of the image's bytes, SHA-256 in hex; noted beside the record. Returns False,
        and stores nothing, if its task is recorded already. Raises DiskRefuses (the file is as it
        was), ValueError or TypeError for what JSON cannot hold, NaN included; ValueError after
        `close`.
        """
        task_id = task_id_of(record)
        if not self.tinydb.storage.is_in_place():
            logger.warning("%s was moved, replaced or cut by another program", self.path)
            self._reopen()
        if task_id is not None and self._index.known(task_id):
            return False
        self._rotate_if_due(len(json.dumps(dict(record))))
        storage, known = self.tinydb.storage, Known(digest, self.owe and task_id is not None)
        at = storage.end
        # It is in both or in neither. The index is the last, since it is the one to be made again.
        with storage.changes(), self._index.changes():
            top = self.tinydb.table(IMAGES).insert(record)
            self._index.add(self.path.name, at, top, task_id, lease_id, known)
        return True

    def _rotate_if_due(self, more: int) -> None:
        storage = self.tinydb.storage
        size = storage.end + more + SEPARATOR + len(CLOSE)
        if storage.top >= 0 and self._rotation.is_due(size, self.path.stat().st_mtime):
            target = rotated_name(self.path)
            with self._index.changes():
                self._index.rotate(self.path.name, target.name)
                storage.rotate(target)
            logger.info("%s: begun anew; the records until now are in %s", self.path, target)

    @_visit
    def known(self, task_id: str) -> Known | None:
        """What is noted of a recorded task, in this file or one that rotation made of it, else
        None. Raises DiskRefuses if the index cannot be read."""
        return self._index.known(task_id)

    @_visit
    def find(self, task_id: str) -> dict[str, Any] | None:
        """The record of a task, or None if it has none or its file is gone. Raises DiskRefuses."""
        found = self._index.find(task_id)
        return found.record if found else None

    @_visit
    def owe_again(self, task_id: str, lease_id: str | None) -> Owed | None:
        """The server offered a recorded task again: post its record again, with this lease.

        Returns what to post, or None while ``owe`` is False or if there is no such record. Raises
        DiskRefuses."""
        if not self.owe:
            return None
        self._index.owe(task_id, lease_id)
        return self._index.find(task_id)

    @_visit
    def owed(self, most: int) -> list[Owed]:
        """The next records to post, ``most`` at most: oldest first, but behind the others after
        each fifth failure. None at all while ``owe`` is False. Raises DiskRefuses."""
        return self._index.owed(most) if self.owe else []

    @_visit
    def settle(self, task_id: str, refusal: str | None = None) -> None:
        """The server has the result, or, with ``refusal`` as its reason, will never take it. Raises
        DiskRefuses."""
        self._index.settle(task_id, refusal)

    @_visit
    def mark_failed(self, task_id: str) -> None:
        """Count one failed post. Raises DiskRefuses."""
        self._index.fail(task_id)

    @_visit
    def owed_count(self) -> int:
        """How many records are still to be posted."""
        return self._index.owed_count()

    @_visit
    def verify(self) -> Verification:
        """Check each document of each file, and make the index again if it does not agree. Raises
        DatabaseUnusable for a file that is damaged."""
        family = self._family()
        documents, agrees = self._index.compare(family)
        if not agrees:
            self._reopen()
        counts = self._index.counts()
        return Verification(len(family), documents, self._torn_bytes, agrees, *counts)

    def close(self) -> None:
        """Close the files and give the lock back; a second call does nothing."""
        with self._mutex:
            self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def verify(path: Path) -> Verification:
    """Open ``path`` as a worker does, repairs included, then check each document of each file.

    Raises DatabaseUnusable if it is missing, in use, damaged or of another program.
    """
    if not path.exists():
        raise DatabaseUnusable(f"{path}: there is no such file")
    with Database(path) as database:
        return database.verify()
