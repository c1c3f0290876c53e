"""The sidecar `<name>.index`: where each task's record stands, and what became of its post.

An SQLite database, so that memory stays flat at any number of records. All of it but the state of
the posts can be made again from the JSON files, which always win. A power cut may cost its latest
changes; the next open finds those records in the file.
"""

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from worker.database.json_file import Survey
from worker.database.reader import HEAD, Block

logger = logging.getLogger(__name__)

VERSION = 2
COUNTED_FAILURES = 5  # after each so many, a post goes to the back of the line

# `found`: the records from `first` to `last` were found in a file. They become owed once somebody
# opens the database who owes posts. `posts`: what is, or was, owed.
_TABLES = """
CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT, end INTEGER, top INTEGER, anchor BLOB);
CREATE TABLE begun (task_id BLOB PRIMARY KEY, times INTEGER);
CREATE TABLE found (first INTEGER, last INTEGER);
CREATE TABLE blocks (id INTEGER PRIMARY KEY, file INTEGER, at INTEGER, size INTEGER);
CREATE TABLE records (seq INTEGER PRIMARY KEY, task_id BLOB, block INTEGER,
    digest TEXT);
CREATE TABLE posts (seq INTEGER PRIMARY KEY, state INTEGER, turn INTEGER,
    failures INTEGER DEFAULT 0, lease_id BLOB, reason BLOB);
CREATE INDEX line ON posts (state, turn);
"""
_BY_TASK = "CREATE INDEX by_task ON records (task_id)"
# A plus keeps SQLite from going through all that is owed, be it to find one or to sort them.
_OWED_OF_TASK = "+state = 1 AND seq IN (SELECT seq FROM records WHERE task_id = ?)"
_FORGET_BEGUN = """DELETE FROM begun
    WHERE EXISTS (SELECT 1 FROM records WHERE records.task_id = begun.task_id)"""
_LAST_TURN = "(SELECT ifnull(max(turn), 0) FROM posts WHERE state = 1)"


class State(IntEnum):
    """What became of a post."""

    OWED = 1
    POSTED = 2
    REFUSED = 3


class Reach(NamedTuple):
    """How far a file is indexed: see `worker.database.json_file.Survey`."""

    file: int
    end: int
    top: int
    anchor: bytes


class Place(NamedTuple):
    """Where the record of a task stands: in which file, in which block of it."""

    seq: int
    task_id: str
    name: str
    at: int
    size: int


def _blob(text: str | None) -> bytes | None:
    # As bytes, since SQLite's text takes no lone surrogate, which JSON may carry.
    return None if text is None else text.encode("utf-8", "surrogatepass")


def text_of(blob: bytes) -> str:
    """The text that is stored as these bytes."""
    return blob.decode("utf-8", "surrogatepass")


class Index:
    """One connection; its user keeps threads apart. Every method may raise sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        """Open or make the sidecar; one that is damaged or of another version is thrown away."""
        self._path = path
        try:
            self._db = _connect(path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            logger.warning("%s: %s; it is made again from the JSON file", path, error)
            self._delete()
            self._db = _connect(path)

    def _delete(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def discard(self) -> None:
        """Close and throw away a sidecar that turned out to be damaged."""
        self.close()
        self._delete()

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of the changes made inside."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._db.rollback()
            raise

    def files(self) -> dict[str, Reach]:
        """How far each file is indexed, by name."""
        rows = self._db.execute("SELECT name, id, end, top, anchor FROM files")
        return {name: Reach(*known) for name, *known in rows}

    def extend(self, known: Reach, survey: Survey) -> None:
        """Add what ``survey`` finds behind what is ``known`` of its file."""
        with self.transaction():
            self._fill(known.file, survey)
            self._db.execute(_FORGET_BEGUN)

    def rebuild(self, surveys: Iterable[Survey]) -> None:
        """Make the index again from all files, oldest first; what is known of posts is kept."""
        with self.transaction():
            for statement in (
                "CREATE TEMP TABLE old AS SELECT * FROM posts JOIN records USING (seq)",
                *("DELETE FROM files", "DELETE FROM blocks", "DELETE FROM records"),
                *("DELETE FROM posts", "DELETE FROM found", "DROP INDEX by_task"),
            ):
                self._db.execute(statement)
            for number, survey in enumerate(surveys, 1):
                name = survey.path.name
                self._db.execute("INSERT INTO files (id, name) VALUES (?, ?)", (number, name))
                self._fill(number, survey)
            for statement in (
                _BY_TASK,
                """INSERT INTO posts SELECT records.seq, state, turn, failures, lease_id, reason
                FROM old JOIN records USING (task_id) GROUP BY records.seq""",
                "DROP TABLE old",
                _FORGET_BEGUN,
            ):
                self._db.execute(statement)
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _fill(self, file: int, survey: Survey) -> None:
        before = self._last_seq()
        for block in survey:
            self._add(file, block)
        if self._last_seq() > before:
            self._db.execute("INSERT INTO found VALUES (?, ?)", (before + 1, self._last_seq()))
        self._reach(file, survey.end, survey.top, survey.anchor())

    def _add(self, file: int, block: Block) -> None:
        place = (file, block.at, block.size)
        query = "INSERT INTO blocks (file, at, size) VALUES (?, ?, ?)"
        number = self._db.execute(query, place).lastrowid
        if b"\\u0000" in block.task_ids:  # where SQLite's JSON ends a text
            rows = [(_blob(task_id), number) for task_id in json.loads(block.task_ids)]
            self._db.executemany("INSERT INTO records (task_id, block) VALUES (?, ?)", rows)
        else:
            self._db.execute(
                """INSERT INTO records (task_id, block)
                SELECT CAST(value AS BLOB), ? FROM json_each(?)""",
                (number, block.task_ids.decode()),
            )

    def _reach(self, file: int, end: int, top: int, anchor: bytes) -> None:
        query = "UPDATE files SET end = ?, top = ?, anchor = ? WHERE id = ?"
        self._db.execute(query, (end, top, anchor, file))

    def _last_seq(self) -> int:
        return int(self._value("SELECT ifnull(max(seq), 0) FROM records"))

    def _value(self, query: str, *values: object) -> Any:
        return self._db.execute(query, values).fetchone()[0]

    def add(
        self, name: str, block: Block, anchor: bytes, digests: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Note records just appended to file ``name``; their tasks are no longer begun.

        ``digests``: of the images of some of them, by task id.
        """
        file = self._value("SELECT id FROM files WHERE name = ?", name)
        self._add(file, block)
        self._reach(file, block.at + block.size, block.top, anchor)
        for task_id in json.loads(block.task_ids):
            self._db.execute("DELETE FROM begun WHERE task_id = ?", (_blob(task_id),))
        query = "UPDATE records SET digest = ? WHERE task_id = ?"
        self._db.executemany(query, [(digest, _blob(task_id)) for task_id, digest in digests])

    def rotate(self, name: str, target: str) -> None:
        """Note that file ``name`` is now called ``target``, and that a new one took its name."""
        self._db.execute("UPDATE files SET name = ? WHERE name = ?", (target, name))
        query = "INSERT INTO files (name, end, top, anchor) VALUES (?, ?, 0, ?)"
        self._db.execute(query, (name, len(HEAD), HEAD))

    def owe_found(self) -> None:
        """Owe all records that were found in the files, but for those whose post is known."""
        with self.transaction():
            self._db.execute(
                f"""INSERT OR IGNORE INTO posts (seq, state, turn)
                SELECT seq, 1, seq - first + 1 + {_LAST_TURN}
                FROM found JOIN records ON seq BETWEEN first AND last"""  # noqa: S608
            )
            self._db.execute("DELETE FROM found")

    def owe(self, task_id: str, lease_id: str | None) -> None:
        """Owe a recorded task with this lease, at the back of the line unless it is in it."""
        self._db.execute(
            f"""INSERT INTO posts (seq, state, turn, lease_id)
            SELECT seq, 1, 1 + {_LAST_TURN}, ? FROM records WHERE task_id = ?
            ON CONFLICT DO UPDATE SET lease_id = excluded.lease_id, reason = NULL,
            turn = iif(state = 1, turn, excluded.turn),
            failures = iif(state = 1, failures, 0), state = 1""",  # noqa: S608
            (_blob(lease_id), _blob(task_id)),
        )

    def settle(self, task_id: str, state: State, reason: str | None = None) -> None:
        """Note that what is owed was posted or refused."""
        query = f"UPDATE posts SET state = ?, reason = ? WHERE {_OWED_OF_TASK}"  # noqa: S608
        self._db.execute(query, (state, _blob(reason), _blob(task_id)))

    def fail(self, task_id: str) -> None:
        """Count one failure; each fifth sends the post to the back of the line."""
        self._db.execute(
            f"""UPDATE posts SET failures = failures + 1,
            turn = iif((failures + 1) % ?, turn, 1 + {_LAST_TURN})
            WHERE {_OWED_OF_TASK}""",  # noqa: S608
            (COUNTED_FAILURES, _blob(task_id)),
        )

    def digest(self, task_id: str) -> str | None:
        """The digest of a recorded task's image as noted when it was stored, or None."""
        query = "SELECT max(digest) FROM records WHERE task_id = ?"
        found: str | None = self._value(query, _blob(task_id))
        return found

    def is_owed(self, task_id: str) -> bool:
        """Whether the record of a task is still to be posted."""
        query = f"SELECT count(*) FROM posts WHERE {_OWED_OF_TASK}"  # noqa: S608
        return bool(self._value(query, _blob(task_id)))

    def owed_as(self, seq: int) -> tuple[int, str | None]:
        """Failures and lease of a post."""
        query = "SELECT failures, lease_id FROM posts WHERE seq = ?"
        failures, lease = self._db.execute(query, (seq,)).fetchone()
        return failures, None if lease is None else text_of(lease)

    def places(self, task_id: str) -> list[Place]:
        """Where the record of a task is said to stand."""
        return list(self._places("WHERE task_id = ? ORDER BY seq", _blob(task_id)))

    def all_places(self) -> Iterator[Place]:
        """Where all records are said to stand, oldest first."""
        return self._places("ORDER BY seq")

    def owed(self, most: int, after: int | None) -> list[tuple[Place, int, str | None]]:
        """Place, failures and lease of the first in line; or, by age, of the oldest whose ``seq``
        is larger than ``after``; ``most`` of them at most."""
        if after is None:
            where = "state = 1 ORDER BY turn"
        else:
            where = "+state = 1 AND seq > ? ORDER BY seq"
        query = f"SELECT seq, failures, lease_id FROM posts WHERE {where} LIMIT ?"  # noqa: S608
        rows = self._db.execute(query, (most,) if after is None else (after, most)).fetchall()
        found = []
        for seq, failures, lease in rows:
            (place,) = self._places("WHERE seq = ?", seq)
            found.append((place, failures, None if lease is None else text_of(lease)))
        return found

    def _places(self, rest: str, *values: object) -> Iterator[Place]:
        query = f"""SELECT seq, task_id, name, at, size FROM records
            JOIN blocks ON blocks.id = block JOIN files ON files.id = file {rest}"""  # noqa: S608
        for seq, task_id, *place in self._db.execute(query, values):
            yield Place(seq, text_of(task_id), *place)

    def forget(self, seq: int) -> None:
        """Drop the entry of a record that is not in its file."""
        with self.transaction():
            self._db.execute("DELETE FROM records WHERE seq = ?", (seq,))
            self._db.execute("DELETE FROM posts WHERE seq = ?", (seq,))

    def owed_count(self) -> int:
        """The number of records still to be posted."""
        return int(self._value("SELECT count(*) FROM posts WHERE state = 1"))

    def begin(self, task_id: str) -> int:
        """Count a task as begun; returns how often it was before."""
        rows = self._db.execute(
            """INSERT INTO begun VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1
            RETURNING times - 1""",
            (_blob(task_id),),
        ).fetchall()
        return int(rows[0][0])

    def begun(self, task_id: str) -> int:
        """How often a task was begun."""
        query = "SELECT ifnull(max(times), 0) FROM begun WHERE task_id = ?"
        return int(self._value(query, _blob(task_id)))

    def duplicates(self) -> int:
        """The number of records whose task is recorded before."""
        return int(self._value("SELECT count(*) - count(DISTINCT task_id) FROM records"))


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            db.executescript(
                f"BEGIN; {_TABLES} {_BY_TASK}; PRAGMA user_version = {VERSION}; COMMIT"
            )
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"its version is {version}, not {VERSION}")
    except BaseException:
        db.close()
        raise
    return db
