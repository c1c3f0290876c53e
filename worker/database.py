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
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial, wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from filelock import BaseFileLock, FileLock, Timeout

from worker.database_file import (
    CLOSE,
    RecordFile,
    Survey,
    read_anchor,
    rewrite,
    rotated_name,
)
from worker.database_index import Index, State, posting_states
from worker.database_reader import (
    IMAGES,
    Block,
    Broken,
    find_record,
    json_task_ids,
    read_records,
    rotated_files,
    task_id_of,
    unusable,
    walk,
)
from worker.errors import DatabaseUnusable, RetryLater

__all__ = [
    "NEVER",
    "Database",
    "DiskRefuses",
    "Owed",
    "Rotation",
    "Verification",
    "parse_rotation",
    "posting_states",
    "read_records",
    "verify",
]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9}


class DiskRefuses(RetryLater):
    """Raised when the disk does not take a record: full, over quota, failing. Nothing is lost."""


@dataclass(frozen=True)
class Rotation:
    """When a new file is begun: in a new month (UTC), or before one exceeds ``max_bytes``."""

    monthly: bool = False
    max_bytes: int | None = None


NEVER = Rotation()


def parse_rotation(text: str) -> Rotation:
    """`never`, `monthly`, or a size such as `100 MB` (kB, MB, GB; powers of ten).

    Raises ValueError for anything else.
    """
    if text == "never":
        return NEVER
    if text == "monthly":
        return Rotation(monthly=True)
    found = re.fullmatch(r"([1-9]\d*) ?(kB|MB|GB)", text)
    if not found:
        raise ValueError(f"{text!r} is neither never nor monthly nor a size such as 100 MB")
    return Rotation(max_bytes=int(found[1]) * UNITS[found[2]])


@dataclass(frozen=True)
class Owed:
    """A record to post. ``sequence`` grows with its age's end: later records have larger ones.

    ``failures``: how often the server has answered this post with a fault.
    """

    task_id: str
    lease_id: str | None
    failures: int
    record: dict[str, Any]
    sequence: int


def _guarded(
    method: Callable[Concatenate["Database", P], T],
) -> Callable[Concatenate["Database", P], T]:
    """One thread at a time; a disk that refuses is told apart from an index that is damaged, which
    is made again at once."""

    @wraps(method)
    def call(self: "Database", /, *values: P.args, **named: P.kwargs) -> T:
        with self._mutex:
            try:
                return method(self, *values, **named)
            except sqlite3.OperationalError as error:
                raise DiskRefuses(f"{self.path}.index: {error}; waiting") from error
            except sqlite3.DatabaseError as error:
                logger.error("%s.index: %s; it is made again", self.path, error)
                self._renew_index()
                return method(self, *values, **named)

    return call


class Database:
    """The records of one worker. Safe to use from several threads; a context manager."""

    def __init__(self, path: Path, *, rotation: Rotation = NEVER, owe: bool = False) -> None:
        """Open ``path``, made where it is missing: lock, repair, index what the index misses.

        ``owe``: records with a task id are owed to the server, those that an earlier process
        stored without noting it included. Raises DatabaseUnusable.
        """
        self.path = path.resolve()
        self.owe = owe
        self._rotation = rotation
        self._mutex = threading.RLock()
        self._unnoted: list[Callable[[], None]] = []
        try:
            with ExitStack() as stack:
                stack.callback(_lock(self.path).release)
                if not self.path.exists() or not self.path.stat().st_size:
                    rewrite(self.path)
                self._month = _month(self.path.stat().st_mtime)
                self._index = Index(self._sidecar)
                stack.callback(lambda: self._index.close())
                self._catch_up()
                stack.callback(lambda: self._file.close())
                self._stack = stack.pop_all()
        except OSError as error:
            raise DatabaseUnusable(f"cannot use {path}: {error.strerror or error}") from error
        except sqlite3.Error as error:
            raise DatabaseUnusable(f"cannot use {self._sidecar}: {error}") from error

    @property
    def _sidecar(self) -> Path:
        return self.path.with_name(f"{self.path.name}.index")

    def _catch_up(self, *, anew: bool = False) -> None:
        known = self._index.files()
        family = [*rotated_files(self.path), self.path]
        if known.keys() != {file.name for file in family}:
            anew = True
        elif any(
            read_anchor(file, known[file.name].end) != known[file.name].anchor for file in family
        ):
            anew = True
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
        self.torn_bytes = len(survey.torn or b"")
        self._file = RecordFile(survey)

    def _renew_index(self) -> None:
        self._index.discard()
        self._index = Index(self._sidecar)
        self._unnoted.clear()
        self._file.close()
        self._catch_up()

    @_guarded
    def append(self, record: Mapping[str, Any], *, lease_id: str | None = None) -> bool:
        """Store a record, durably on return; it is owed where ``owe`` and it has a task id.

        Returns False, and stores nothing, where its task is recorded already. Raises DiskRefuses
        (the file is as it was), ValueError or TypeError for what JSON cannot hold, NaN included.
        """
        self._note()
        text = json.dumps(dict(record), allow_nan=False)
        task_id = task_id_of(record)
        if task_id is not None and self.knows(task_id):
            return False
        try:
            if self._rotation_is_due(len(text)):
                self._rotate()
            at, size = self._file.append(text)
        except OSError as error:
            raise DiskRefuses(f"cannot store to {self.path}: {error.strerror}; waiting") from error
        block = Block(at, size, json_task_ids([record]), self._file.top)
        self._unnoted.append(partial(self._index.add, self.path.name, block, self._file.anchor))
        if self.owe and task_id is not None:
            self._unnoted.append(partial(self._index.owe, task_id, lease_id))
        # The record is durable: what the index cannot take now, it takes before the next append.
        with suppress(sqlite3.Error):
            self._note()
        return True

    def _note(self) -> None:
        if self._unnoted:
            with self._index.transaction():
                for change in self._unnoted:
                    change()
            self._unnoted.clear()

    def _rotation_is_due(self, more: int) -> bool:
        month, self._month = self._month, _month(datetime.now(UTC).timestamp())
        limit = self._rotation.max_bytes
        return not self._file.empty and (
            (self._rotation.monthly and month != self._month)
            or (limit is not None and self._file.end + more + len(CLOSE) > limit)
        )

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
        self._note()
        return any(
            find_record(self.path.with_name(place.name), place.at, place.size, task_id) is not None
            for place in self._index.places(task_id)
        )

    @_guarded
    def owe_again(self, task_id: str, lease_id: str | None) -> None:
        """The server offered a recorded task again: post its record again, with this lease.

        Does nothing while ``owe`` is False. Raises DiskRefuses.
        """
        self._note()
        if self.owe:
            self._index.owe(task_id, lease_id)

    @_guarded
    def next_owed(self, *, after: int | None = None) -> Owed | None:
        """The next record to post, or None: oldest first, but behind the others after each fifth
        failure. None, too, while ``owe`` is False.

        With ``after``: by age alone, the oldest whose ``sequence`` is larger. So each can be tried
        once: begin with 0, and pass the ``sequence`` of the last one. Raises DiskRefuses.
        """
        while self.owe and (found := self._index.next_owed(after)):
            place, failures, lease_id = found
            file = self.path.with_name(place.name)
            record = find_record(file, place.at, place.size, place.task_id)
            if record is not None:
                return Owed(place.task_id, lease_id, failures, record, place.seq)
            logger.error("task=%s cannot be posted: it is not in %s", place.task_id, file)
            self._index.forget(place.seq)
        return None

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
        states = self._index.states()
        return [(task_id, reason or "") for task_id, state, reason in states if state == "refused"]

    @_guarded
    def begin(self, task_id: str) -> int:
        """Note that the analysis of a task begins; `append` ends it.

        Returns how often it was begun before without a record: each time, the process ended over
        it. Raises DiskRefuses.
        """
        return self._index.begin(task_id)

    def close(self) -> None:
        """Close the files and give the lock back; a second call does nothing."""
        with self._mutex:
            self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @_guarded
    def _indexed(self, file: Path, task_id: str, at: int, end: int) -> bool:
        return any(
            place.name == file.name and place.at <= at and end <= place.at + place.size
            for place in self._index.places(task_id)
        )

    @_guarded
    def _verify(self) -> "Verification":
        documents = tasks = agreeing = 0
        family = [*rotated_files(self.path), self.path]
        for path in family:
            with path.open("rb") as file:
                try:
                    for entry in walk(file):
                        if entry.table != IMAGES or entry.doc_id is None:
                            continue
                        documents += 1
                        task_id = task_id_of(entry.document)
                        if task_id is not None:
                            tasks += 1
                            agreeing += self._indexed(path, task_id, entry.at, entry.end)
                except Broken as broken:
                    raise unusable(path, broken) from None
        agrees = agreeing == tasks == self._index.totals()[0]
        if not agrees:
            self._file.close()
            self._catch_up(anew=True)
        entries, different = self._index.totals()
        return Verification(
            files=len(family),
            documents=documents,
            torn_bytes=self.torn_bytes,
            duplicates=entries - different,
            index_agrees=agrees,
            owed=self._index.owed_count(),
        )


@dataclass(frozen=True)
class Verification:
    """What `verify` found. ``torn_bytes``: of an interrupted append, cut off and kept aside.

    ``duplicates``: records whose task is recorded before. ``index_agrees``: False where the sidecar
    had to be made again.
    """

    files: int
    documents: int
    torn_bytes: int
    duplicates: int
    index_agrees: bool
    owed: int

    @property
    def sound(self) -> bool:
        """Whether each task has one record; all else is repaired by now."""
        return not self.duplicates

    def lines(self) -> list[str]:
        """What was found, for a person."""
        return [
            f"documents: {self.documents} in {self.files} file{'s' * (self.files > 1)}",
            f"torn tail: {f'{self.torn_bytes} bytes moved to .torn' if self.torn_bytes else 'no'}",
            f"tasks recorded more than once: {self.duplicates}",
            f"index: {'agrees' if self.index_agrees else 'did not agree; made again'}",
            f"results still to post: {self.owed}",
        ]


def verify(path: Path) -> Verification:
    """Open ``path`` as a worker does, repairs included, then check each document of each file.

    Raises DatabaseUnusable where it is missing, in use, damaged or of another program.
    """
    if not path.exists():
        raise DatabaseUnusable(f"{path}: there is no such file")
    with Database(path) as database:
        return database._verify()


def _month(timestamp: float) -> tuple[int, int]:
    time = datetime.fromtimestamp(timestamp, UTC)
    return time.year, time.month


def _lock(path: Path) -> BaseFileLock:
    file = path.with_name(f"{path.name}.lock")
    lock = FileLock(file, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise DatabaseUnusable(
            f"{path} is in use by another worker ({_holder(file)}); stop it, or name another file"
        ) from None
    # Where a file system has no locks, filelock turns to one that writes the process id itself.
    if isinstance(lock, FileLock):
        with suppress(OSError):
            file.write_text(f"{os.getpid()}\n")
    return lock


def _holder(file: Path) -> str:
    with suppress(OSError):
        if words := file.read_text().split():
            return f"process {words[0]}"
    return "process unknown"
