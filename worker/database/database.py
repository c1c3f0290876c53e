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
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from worker.database.appending import AppendTinyDB
from worker.database.faults import FULL, can_wait, refused
from worker.database.index import Index, Place, State
from worker.database.locks import lock
from worker.database.reader import CLOSE, IMAGES, Documents, task_id_of
from worker.database.rotation import NEVER, Rotation, month_of, rotated_files, undo_rotation
from worker.database.told import Known, Owed
from worker.database.verification import Verification, check
from worker.errors import DatabaseUnusable, DiskRefuses

logger = logging.getLogger(__name__)

GONE = (
    "%s: the records of %d tasks are in no file any longer; these tasks stay done, and %d results "
    "that were still to be posted are dropped"
)
SEPARATOR = 50  # bytes at most between two documents, the number of the second one included

P = ParamSpec("P")
T = TypeVar("T")


def _visit(
    method: Callable[Concatenate["Database", P], T],
) -> Callable[Concatenate["Database", P], T]:
    """One thread at a time; tells a disk that refuses from an index that turns out to be damaged,
    which is made again at once. First the index gets what it could not take before."""

    @wraps(method)
    def call(self: "Database", /, *values: P.args, **named: P.kwargs) -> T:
        def action() -> T:
            self._note()
            return method(self, *values, **named)

        with self._mutex:
            try:
                return self._healing(action)
            except OSError as error:
                raise refused(self.path, error) from error
            except sqlite3.ProgrammingError:  # it is closed
                raise
            except sqlite3.Error as error:
                raise refused(self._sidecar, error) from error

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
        self._unnoted: Callable[[], None] | None = None
        if not self.path.parent.is_dir():
            raise DatabaseUnusable(f"cannot use {path}: there is no folder {self.path.parent}")
        try:
            with ExitStack() as stack:
                stack.callback(lock(self.path).release)
                undo_rotation(self.path)
                # The file is locked before anything beside it is touched.
                self.tinydb = AppendTinyDB(self.path)
                stack.callback(lambda: self.tinydb.close())
                self._index = Index(self._sidecar)
                stack.callback(lambda: self._index.close())
                self._healing(self._catch_up)
                self._stack = stack.pop_all()
        except OSError as error:
            if error.errno in FULL:
                raise refused(self.path, error) from error
            raise DatabaseUnusable(f"cannot use {path}: {error.strerror or error}") from error
        except sqlite3.Error as error:
            if can_wait(error) and "unable to open" not in str(error):
                raise refused(self._sidecar, error) from error
            raise DatabaseUnusable(f"cannot use {self._sidecar}: {error}") from error

    def _catch_up(self, *, rebuild: bool = False) -> None:
        """Bring the index up to date with the files, mend the tail of the one that is open."""
        self._month = month_of(self.path.stat().st_mtime)
        family = [*rotated_files(self.path), self.path]
        if rebuild or not self._index.agrees(family):
            documents = Documents(self.path)
            gone, dropped = self._index.rebuild([*map(Documents, family[:-1]), documents])
            if gone:
                logger.warning(GONE, self.path, gone, dropped)
        else:
            documents = Documents(self.path, self._index.last(self.path.name))
            self._index.extend(documents)
        if not documents.appendable:
            logger.info("%s: bringing it into the form that appends need", self.path)
            self.tinydb.storage.write(self.tinydb.storage.read() or {})
            self._catch_up(rebuild=True)
            return
        if self.owe:
            self._index.owe_found()
        if documents.torn is not None:
            self._torn_bytes = len(documents.torn)
        self.tinydb.storage.resume(documents, self._index.top(self.path.name))

    def _reopen(self) -> None:
        """Go on with the file that stands at the path now."""
        try:
            self.tinydb.close()
            self.tinydb = AppendTinyDB(self.path)
            self._catch_up(rebuild=True)
        except DatabaseUnusable as error:
            # What is in hand is kept, and a person can put the file right.
            self.tinydb.close()
            raise DiskRefuses(f"{error}; waiting") from error

    def _healing(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except sqlite3.Error as error:
            if can_wait(error) or isinstance(error, sqlite3.ProgrammingError):  # it is closed
                raise
            self._index.discard(error)
            self._unnoted = None
            self._reopen()
            return action()

    def _note(self) -> None:
        if self._unnoted:
            self._unnoted()
            self._unnoted = None

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
        was), ValueError or TypeError for what JSON cannot hold, NaN included.
        """
        task_id = task_id_of(record)
        if not self.tinydb.storage.is_in_place():
            logger.warning("%s was moved, replaced or cut by another program", self.path)
            self._reopen()
        if task_id is not None and self._index.known(task_id):
            return False
        self._rotate_if_due(record)
        at = self.tinydb.storage.end
        top = self.tinydb.table(IMAGES).insert(record)
        place = Place(0, self.path.name, at, task_id, 0, lease_id)
        owe = self.owe and task_id is not None
        self._unnoted = partial(self._index.add, place, top, digest, owe=owe)
        # It is durable: what the index cannot take now, it takes before anything else.
        with suppress(sqlite3.Error):
            self._note()
        return True

    def _rotate_if_due(self, record: Mapping[str, Any]) -> None:
        month = month_of(time.time())
        size = self.tinydb.storage.end + len(json.dumps(dict(record))) + SEPARATOR + len(CLOSE)
        if self.tinydb.storage.top >= 0 and self._rotation.is_due(size, self._month, month):
            target = self.tinydb.storage.rotate()
            self._unnoted = partial(self._index.rotate, self.path.name, target.name)
            logger.info("%s: begun anew; the records until now are in %s", self.path, target)
            self._note()
        self._month = month

    @_visit
    def known(self, task_id: str) -> Known | None:
        """What is noted of a recorded task, in this file or one that rotation made of it, else
        None. Raises DiskRefuses if the index cannot be brought up to date."""
        return self._index.known(task_id)

    @_visit
    def find(self, task_id: str) -> dict[str, Any] | None:
        """The record of a task, or None if it has none or its file is gone. Raises DiskRefuses."""
        found = self._read(lambda: self._index.places(task_id))
        return found[0].record if found else None

    def _read(self, look: Callable[[], list[Place]]) -> list[Owed]:
        """What ``look`` finds in the index, with the records; if one does not stand where the index
        says, this is made again first."""
        places = look()
        records = [place.read(self.path.parent) for place in places]
        if None in records:
            logger.warning("%s does not agree with the files; it is made again", self._sidecar)
            self._reopen()
            places = look()
            records = [place.read(self.path.parent) for place in places]
        return [
            Owed(place.task_id or "", place.lease_id, place.failures, record)
            for place, record in zip(places, records, strict=True)
            if record is not None
        ]

    @_visit
    def owe_again(self, task_id: str, lease_id: str | None) -> Owed | None:
        """The server offered a recorded task again: post its record again, with this lease.

        Returns what to post, or None while ``owe`` is False or if there is no such record. Raises
        DiskRefuses."""
        if not self.owe:
            return None
        self._index.owe(task_id, lease_id)
        return next(iter(self._read(lambda: self._index.places(task_id))), None)

    @_visit
    def owed(self, most: int) -> list[Owed]:
        """The next records to post, ``most`` at most: oldest first, but behind the others after
        each fifth failure. None at all while ``owe`` is False. Raises DiskRefuses."""
        return self._read(lambda: self._index.owed(most)) if self.owe else []

    @_visit
    def mark_posted(self, task_id: str) -> None:
        """The server has the result. Raises DiskRefuses."""
        self._index.settle(task_id, State.POSTED)

    @_visit
    def mark_refused(self, task_id: str, reason: str) -> None:
        """The server will never take the result. Raises DiskRefuses."""
        self._index.settle(task_id, State.REFUSED, reason)

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
        family = [*rotated_files(self.path), self.path]
        found = check(family, self._index, self._torn_bytes)
        if not found.index_agrees:
            self._reopen()
            found = replace(check(family, self._index, self._torn_bytes), index_agrees=False)
        return found

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
