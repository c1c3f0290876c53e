"""The results: a TinyDB file that costs the same to append to at any size and survives any end.

    results.json                      the records; at every moment a file that TinyDB opens
    results.<UTC time>.json           earlier ones, where `[database] rotate` asks for it
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
from dataclasses import dataclass, replace
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from worker.database.index import Index, State
from worker.database.json_file import (
    CLOSE,
    NEVER,
    RecordFile,
    Rotation,
    Survey,
    lock,
    month_of,
    parse_rotation,
    read_anchor,
    rewrite,
    rotated_name,
    undo_rotation,
)
from worker.database.reader import (
    Block,
    find_record,
    follow_records,
    read_records,
    rotated_files,
    task_id_of,
)
from worker.database.verification import Verification, check, posting_states
from worker.errors import DatabaseUnusable, DiskRefuses

__all__ = [
    "NEVER",
    "Database",
    "Known",
    "Owed",
    "Rotation",
    "Verification",
    "follow_records",
    "parse_rotation",
    "posting_states",
    "read_records",
    "repair",
    "verify",
]

logger = logging.getLogger(__name__)

SEPARATOR = 20  # bytes at most between two documents, the number of the second one included

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Owed:
    """A record to post. ``failures``: how often the server answered this post with a fault.

    ``sequence``: larger for later records.
    """

    task_id: str
    lease_id: str | None
    failures: int
    record: dict[str, Any]
    sequence: int


@dataclass(frozen=True)
class Known:
    """A recorded task. ``digest``: the SHA-256 (hex) of its image as noted when it was stored, or
    None; ``owed``: whether its record is still to be posted."""

    digest: str | None
    owed: bool


@dataclass(eq=False)
class _Entry:
    """A record that a thread waits to have stored. ``outcome``: whether it was, or why not."""

    text: str
    task_id: str | None
    lease_id: str | None
    digest: str | None
    outcome: bool | OSError | None = None


def _guarded(
    method: Callable[Concatenate["Database", P], T],
) -> Callable[Concatenate["Database", P], T]:
    """One thread at a time; tells a disk that refuses from an index that turns out to be damaged,
    which is made again at once."""

    @wraps(method)
    def call(self: "Database", /, *values: P.args, **named: P.kwargs) -> T:
        with self._mutex:
            try:
                return self._healing(partial(method, self, *values, **named))
            except OSError as error:
                text = error.strerror or str(error)
                raise DiskRefuses(f"cannot write {self.path}: {text}; waiting") from error
            except sqlite3.OperationalError as error:
                raise DiskRefuses(f"cannot write {self._sidecar}: {error}; waiting") from error

    return call


class Database:
    """The records of one worker. Safe to use from several threads; a context manager."""

    def __init__(self, path: Path, *, rotation: Rotation = NEVER, owe: bool = False) -> None:
        """Open ``path``, made where it is missing: lock, repair, index what the index misses.

        ``owe``: records with a task id are owed to the server, those that an earlier process
        stored without noting it included. Raises DatabaseUnusable.
        """
        self.path = path.resolve()
        self._sidecar = self.path.with_name(f"{self.path.name}.index")
        self.owe = owe
        self._rotation = rotation
        self._mutex = threading.RLock()
        self._torn_bytes: int | None = None
        self._unnoted: list[Callable[[], None]] = []
        self._waiting: list[_Entry] = []
        self._close_file: Callable[[], None] = lambda: None
        if not self.path.parent.is_dir():
            raise DatabaseUnusable(f"cannot use {path}: there is no folder {self.path.parent}")
        try:
            with ExitStack() as stack:
                stack.callback(lock(self.path).release)
                undo_rotation(self.path)
                if not self.path.exists() or not self.path.stat().st_size:
                    rewrite(self.path)
                self._month = month_of(self.path.stat().st_mtime)
                self._index = Index(self._sidecar)
                stack.callback(lambda: self._index.close())
                stack.callback(lambda: self._close_file())
                self._healing(self._catch_up)
                self._stack = stack.pop_all()
        except OSError as error:
            raise DatabaseUnusable(f"cannot use {path}: {error.strerror or error}") from error
        except sqlite3.Error as error:
            raise DatabaseUnusable(f"cannot use {self._sidecar}: {error}") from error

    def _catch_up(self, *, anew: bool = False) -> None:
        known = self._index.files()
        family = [*rotated_files(self.path), self.path]
        anew = (
            anew
            or known.keys() != {file.name for file in family}
            or any(
                read_anchor(file, known[file.name].end) != known[file.name].anchor
                for file in family
            )
        )
        if anew:
            survey = Survey(self.path)
            self._index.rebuild([*map(Survey, family[:-1]), survey])
        else:
            main = known[self.path.name]
            survey = Survey(self.path, main.end, main.top)
            self._index.extend(main, survey)
        if not survey.appendable:
            logger.info("%s: bringing it into the form that appends need", self.path)
            rewrite(self.path)
            self._catch_up()
            return
        if self.owe:
            self._index.owe_found()
        if survey.torn is not None:
            self._torn_bytes = len(survey.torn)
        self._close_file()
        self._file = RecordFile(survey)
        self._close_file = self._file.close

    def _healing(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except sqlite3.DatabaseError as error:
            # Only this class itself stands for a damaged file; its subclasses do not.
            if type(error) is not sqlite3.DatabaseError:
                raise
            logger.error("%s: %s; it is made again", self._sidecar, error)
            self._index.discard()
            self._index = Index(self._sidecar)
            self._unnoted.clear()
            self._catch_up()
            return action()

    def append(
        self,
        record: Mapping[str, Any],
        *,
        lease_id: str | None = None,
        digest: str | None = None,
    ) -> bool:
        """Store a record, durably on return; it is owed where ``owe`` and it has a task id.

        ``digest``: of the image's bytes, SHA-256 in hex; noted beside the record. What several
        threads append meanwhile is made durable together. Returns False, and stores nothing, where
        its task is recorded already. Raises DiskRefuses (the file is as it was), ValueError or
        TypeError for what JSON cannot hold, NaN included.
        """
        text = json.dumps(dict(record), allow_nan=False)
        entry = _Entry(text, task_id_of(record), lease_id, digest)
        self._waiting.append(entry)
        try:
            return self._store_waiting(entry)
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)

    @_guarded
    def _store_waiting(self, own: _Entry) -> bool:
        """The first of the threads that wait stores for all of them."""
        while own.outcome is None:
            self._note()
            fresh: dict[str | int, _Entry] = {}
            for entry in list(self._waiting):
                if entry.task_id is not None and self.knows(entry.task_id):
                    self._settle([entry], outcome=False)
                else:
                    # A second one of a task waits for what becomes of the first.
                    fresh.setdefault(id(entry) if entry.task_id is None else entry.task_id, entry)
            left = list(fresh.values())
            while left:
                group = self._that_fit(left)
                left = left[len(group) :]
                self._append_group(group)
        if isinstance(own.outcome, OSError):
            raise own.outcome
        return bool(own.outcome)

    def _settle(self, entries: list[_Entry], outcome: bool | OSError) -> None:
        for entry in entries:
            entry.outcome = outcome
            self._waiting.remove(entry)

    def _that_fit(self, entries: list[_Entry]) -> list[_Entry]:
        """As many as the file takes before a new one is due, one at least; begins that one."""
        month = month_of(time.time())

        def due(entries: list[_Entry]) -> bool:
            added = sum(len(entry.text) + SEPARATOR for entry in entries)
            size = self._file.end + added + len(CLOSE)
            return self._rotation.is_due(size, self._month, month)

        if not self._file.empty and due(entries[:1]):
            self._rotate()
        self._month = month
        fit = len(entries)
        while fit > 1 and due(entries[:fit]):
            fit -= 1
        return entries[:fit]

    def _append_group(self, group: list[_Entry]) -> None:
        try:
            at, size = self._file.append([entry.text for entry in group])
        except OSError as error:
            self._settle(group, error)
            return
        task_ids = json.dumps([entry.task_id for entry in group if entry.task_id is not None])
        block = Block(at, size, task_ids.encode(), self._file.top)
        digests = [(e.task_id, e.digest) for e in group if e.task_id is not None and e.digest]
        note = partial(self._index.add, self.path.name, block, self._file.anchor, digests)
        self._unnoted.append(note)
        for entry in group:
            if self.owe and entry.task_id is not None:
                self._unnoted.append(partial(self._index.owe, entry.task_id, entry.lease_id))
        self._settle(group, outcome=True)
        # They are durable: what the index cannot take now, it takes before the next append.
        with suppress(sqlite3.Error):
            self._note()

    def _note(self) -> None:
        if self._unnoted:
            with self._index.transaction():
                for change in self._unnoted:
                    change()
            self._unnoted.clear()

    def _rotate(self) -> None:
        target = rotated_name(self.path)
        self._file.rotate(target)
        self._unnoted.append(partial(self._index.rotate, self.path.name, target.name))
        logger.info("%s: begun anew; the records until now are in %s", self.path, target)

    @_guarded
    def knows(self, task_id: str) -> bool:
        """Whether the task is recorded, in this file or one that rotation made of it.

        Raises DiskRefuses where the index cannot be brought up to date.
        """
        return self.find(task_id) is not None

    @_guarded
    def known(self, task_id: str) -> Known | None:
        """What is noted of a recorded task, in this file or one that rotation made of it, else
        None. Raises DiskRefuses where the index cannot be brought up to date."""
        if self.find(task_id) is None:
            return None
        return Known(self._index.digest(task_id), self._index.is_owed(task_id))

    @_guarded
    def find(self, task_id: str) -> dict[str, Any] | None:
        """The record of a task that `knows` knows, else None. Raises DiskRefuses, too."""
        self._note()
        for place in self._index.places(task_id):
            file = self.path.with_name(place.name)
            if (record := find_record(file, place.at, place.size, task_id)) is not None:
                return record
        return None

    @_guarded
    def owe_again(self, task_id: str, lease_id: str | None) -> Owed | None:
        """The server offered a recorded task again: post its record again, with this lease.

        Returns what to post. Does nothing, and returns None, while ``owe`` is False or where there
        is no record. Raises DiskRefuses.
        """
        self._note()
        if not self.owe or (record := self.find(task_id)) is None:
            return None
        self._index.owe(task_id, lease_id)
        place = self._index.places(task_id)[0]
        failures, lease_id = self._index.owed_as(place.seq)
        return Owed(task_id, lease_id, failures, record, place.seq)

    def next_owed(self, *, after: int | None = None) -> Owed | None:
        """The first of what `owed` gives, or None."""
        return next(iter(self.owed(1, after=after)), None)

    @_guarded
    def owed(self, most: int, *, after: int | None = None) -> list[Owed]:
        """The next records to post, ``most`` at most: oldest first, but behind the others after
        each fifth failure. None at all while ``owe`` is False.

        With ``after``: by age alone, those whose ``sequence`` is larger. So each can be tried
        once: begin with 0, and pass the ``sequence`` of the last one. Raises DiskRefuses.
        """
        found: list[Owed] = []
        while self.owe and not found and (rows := self._index.owed(most, after)):
            for place, failures, lease_id in rows:
                file = self.path.with_name(place.name)
                record = find_record(file, place.at, place.size, place.task_id)
                if record is not None:
                    found.append(Owed(place.task_id, lease_id, failures, record, place.seq))
                    continue
                logger.error("task=%s cannot be posted: it is not in %s", place.task_id, file)
                self._index.forget(place.seq)
        return found

    @_guarded
    def mark_posted(self, task_id: str) -> None:
        """The server has the result. Raises DiskRefuses."""
        self._index.settle(task_id, State.POSTED)

    @_guarded
    def mark_refused(self, task_id: str, reason: str) -> None:
        """The server will never take the result. Raises DiskRefuses."""
        self._index.settle(task_id, State.REFUSED, reason)

    @_guarded
    def mark_failed(self, task_id: str) -> None:
        """Count one failed post. Raises DiskRefuses."""
        self._index.fail(task_id)

    @_guarded
    def owed_count(self) -> int:
        """How many records are still to be posted."""
        return self._index.owed_count()

    @_guarded
    def refusals(self) -> list[tuple[str, str]]:
        """Task id and reason of each result that the server refused for good, oldest first."""
        states = posting_states(self.path)
        return [(task_id, reason or "") for task_id, state, reason in states if state == "refused"]

    @_guarded
    def begin(self, task_id: str) -> int:
        """Note that the analysis of a task begins; `append` ends it.

        Returns how often it was begun before without a record: each time, the process ended over
        it. Raises DiskRefuses.
        """
        return self._index.begin(task_id)

    @_guarded
    def begun(self, task_id: str) -> int:
        """How often `begin` was called for a task that has no record. Raises DiskRefuses."""
        return self._index.begun(task_id)

    def close(self) -> None:
        """Close the files and give the lock back; a second call does nothing."""
        with self._mutex:
            self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @_guarded
    def verify(self) -> Verification:
        """Check each document of each file, and make the index again where it does not agree.

        Raises DatabaseUnusable for a file that is damaged.
        """
        family = [*rotated_files(self.path), self.path]
        found = check(family, self._index, self._torn_bytes)
        if not found.index_agrees:
            self._catch_up(anew=True)
            found = replace(check(family, self._index, self._torn_bytes), index_agrees=False)
        return found


def repair(path: Path) -> None:
    """Mend what a crash left of ``path``, if it is there and no worker uses it.

    What is wrong with it beyond that is said by whoever reads it.
    """
    if path.exists():
        with suppress(DatabaseUnusable):
            Database(path).close()


def verify(path: Path) -> Verification:
    """Open ``path`` as a worker does, repairs included, then check each document of each file.

    Raises DatabaseUnusable where it is missing, in use, damaged or of another program.
    """
    if not path.exists():
        raise DatabaseUnusable(f"{path}: there is no such file")
    with Database(path) as database:
        return database.verify()
