"""The sidecar `<name>.index`: where each record stands, and what became of its post.

An SQLite database, so that memory stays flat at any number of records. All of it but the state of
the posts can be made again from the JSON files, which always win. A power cut may cost its latest
changes; the next open finds those records in the file.
"""

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from worker.database.faults import can_wait
from worker.database.reader import Documents, read_document, task_id_of
from worker.database.told import Known

logger = logging.getLogger(__name__)

VERSION = 3
BATCH = 200  # rows that are inserted by one statement, which halves the time that they take
COUNTED_FAILURES = 5  # after each so many, a post goes to the back of the line

# A record without a `file` is in none any longer, but its task stays done. One without a `state`
# was found in a file: it becomes owed once somebody opens the database who owes posts. `turn`: the
# place in the line of posts. `top`: a file's largest document id, as text, since it may be larger
# than SQLite's numbers.
_TABLES = (
    "CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT, top TEXT DEFAULT -1)",
    """CREATE TABLE records (seq INTEGER PRIMARY KEY, file INTEGER, at INTEGER, task_id BLOB,
    digest TEXT, state INTEGER, turn INTEGER, failures INTEGER DEFAULT 0, lease_id BLOB,
    reason BLOB)""",
)
_BY_TASK = "CREATE INDEX by_task ON records (task_id)"
_BY_TURN = "CREATE INDEX by_turn ON records (turn) WHERE state = 1"
_LAST_TURN = "(SELECT ifnull(max(turn), 0) FROM records WHERE state = 1)"


class State(IntEnum):
    """What became of a post; KEPT: none was asked for."""

    KEPT = 0
    OWED = 1
    POSTED = 2
    REFUSED = 3


class Place(NamedTuple):
    """Where a record begins, in which file, at which byte; and what is noted of its post."""

    seq: int
    name: str
    at: int
    task_id: str | None
    failures: int
    lease_id: str | None

    def read(self, folder: Path) -> dict[str, Any] | None:
        """The record, or None if it does not stand there. Raises OSError."""
        document = read_document(folder / self.name, self.at)
        return document if document and task_id_of(document) == self.task_id else None


def blob_of(text: str | None) -> bytes | None:
    """A text as it is stored: as bytes, since SQLite's text takes no lone surrogate."""
    return None if text is None else text.encode("utf-8", "surrogatepass")


def text_of(blob: bytes | None) -> str | None:
    """The text that is stored as these bytes. Raises sqlite3.DatabaseError if it cannot be."""
    try:
        return None if blob is None else bytes(blob).decode("utf-8", "surrogatepass")
    except (TypeError, ValueError) as error:
        raise sqlite3.DatabaseError(f"no text: {error}") from error


class Index:
    """One connection; its user keeps threads apart. Every method may raise sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        """Open or make the sidecar; one that is damaged or of another version is made again."""
        self._path = path
        try:
            self._db = _connect(path)
        except sqlite3.Error as error:
            if can_wait(error):
                raise
            self.discard(error)

    def discard(self, error: sqlite3.Error) -> None:
        """Begin an empty sidecar in place of one that turned out to be damaged."""
        logger.error("%s: %s; it is made again from the JSON file", self._path, error)
        if hasattr(self, "_db"):
            self.close()
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        self._db = _connect(self._path)

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def _run(self, *statements: str) -> None:
        for statement in statements:
            self._db.execute(statement)

    def _value(self, query: str, *values: object) -> Any:
        return self._db.execute(query, values).fetchone()[0]

    def agrees(self, family: Sequence[Path]) -> bool:
        """Whether it has these files and no others, and each one's last record where it stands."""
        names = [name for (name,) in self._db.execute("SELECT name FROM files ORDER BY id")]
        last = list(self._places("WHERE seq IN (SELECT max(seq) FROM records GROUP BY file)"))
        return names == [file.name for file in family] and all(
            place.read(family[0].parent) is not None for place in last
        )

    def last(self, name: str) -> int:
        """The byte at which the last record of a file begins, or 0 if it has none."""
        last = self._places("WHERE name = ? ORDER BY seq DESC LIMIT 1", name)
        return next((place.at for place in last), 0)

    def extend(self, documents: Documents) -> None:
        """Add what ``documents`` has behind the last record of its file."""
        with self._db:
            self._run("BEGIN IMMEDIATE")
            self._fill(documents)

    def rebuild(self, family: Iterable[Documents]) -> tuple[int, int]:
        """Make the index again from all files, oldest first; what is known of posts is kept.

        Tasks that are in none of them stay known. Returns how many of these were in one before, and
        how many of their results were still to be posted.
        """
        # While there is nothing to lose, nothing is written twice.
        empty = self._value("SELECT count(*) FROM files") == 0
        self._run(f"PRAGMA journal_mode = {'MEMORY' if empty else 'WAL'}")
        lost = "NOT EXISTS (SELECT 1 FROM records WHERE records.task_id = old.task_id)"
        posts = "digest, state, turn, failures, lease_id, reason"
        old_posts = ", ".join(f"old.{name}" for name in posts.split(", "))
        with self._db:
            self._run("BEGIN IMMEDIATE", "ALTER TABLE records RENAME TO old", "DROP TABLE files")
            self._run("DROP INDEX by_task", "DROP INDEX by_turn", *_TABLES)
            for documents in family:
                self._db.execute("INSERT INTO files (name) VALUES (?)", (documents.path.name,))
                self._fill(documents)
            self._run(
                _BY_TASK,
                f"""UPDATE records SET ({posts}) = ({old_posts}) FROM old
                WHERE old.task_id = records.task_id""",  # noqa: S608
                _BY_TURN,
            )
            query = f"SELECT count(*), ifnull(sum(state = 1), 0) FROM old WHERE file AND {lost}"  # noqa: S608
            gone, dropped = self._db.execute(query).fetchone()
            self._run(
                f"""INSERT INTO records (task_id, digest, state) SELECT task_id, digest, 0 FROM old
                WHERE task_id IS NOT NULL AND {lost}""",  # noqa: S608
                "DROP TABLE old",
            )
        self._run("PRAGMA journal_mode = WAL")
        return gone, dropped

    def _fill(self, documents: Documents) -> None:
        name = documents.path.name
        file, begin = self._value("SELECT id FROM files WHERE name = ?", name), self.last(name)
        rows = (
            (entry.at, blob_of(task_id_of(entry.document)))
            for entry in documents
            if entry.at > begin
        )
        while batch := list(islice(rows, BATCH)):
            places = ", ".join([f"({file}, ?, ?)"] * len(batch))
            query = f"INSERT INTO records (file, at, task_id) VALUES {places}"  # noqa: S608
            self._db.execute(query, list(chain.from_iterable(batch)))
        self._reach(name, max(documents.top, self.top(name)))

    def top(self, name: str) -> int:
        """The largest document id of a file, or -1."""
        try:
            return int(self._value("SELECT top FROM files WHERE name = ?", name))
        except (TypeError, ValueError) as error:
            raise sqlite3.DatabaseError(f"no document id: {error}") from error

    def _reach(self, name: str, top: int) -> None:
        self._db.execute("UPDATE files SET top = ? WHERE name = ?", (str(top), name))

    def add(self, place: Place, top: int, digest: str | None, *, owe: bool) -> None:
        """Note a record just appended (``place.seq`` is yet to come), and whether it is owed."""
        with self._db:
            self._run("BEGIN IMMEDIATE")
            self._reach(place.name, top)
            task_id, lease_id = blob_of(place.task_id), blob_of(place.lease_id)
            self._db.execute(
                f"""INSERT INTO records (file, at, task_id, digest, lease_id, state, turn)
                SELECT id, ?, ?, ?, ?, ?, 1 + {_LAST_TURN} FROM files WHERE name = ?""",  # noqa: S608
                (place.at, task_id, digest, lease_id, State.OWED if owe else 0, place.name),
            )

    def rotate(self, name: str, target: str) -> None:
        """Note that file ``name`` is now called ``target``, and that a new one took its name."""
        with self._db:
            self._run("BEGIN IMMEDIATE")
            self._db.execute("UPDATE files SET name = ? WHERE name = ?", (target, name))
            self._db.execute("INSERT INTO files (name) VALUES (?)", (name,))

    def owe_found(self) -> None:
        """Owe all records that were found in the files, but for those whose post is known."""
        self._run(
            f"""UPDATE records SET state = 1, turn = seq + {_LAST_TURN}
            WHERE state IS NULL AND task_id IS NOT NULL"""  # noqa: S608
        )

    def owe(self, task_id: str, lease_id: str | None) -> None:
        """Owe a recorded task with this lease, at the back of the line unless it is in it."""
        self._db.execute(
            f"""UPDATE records SET turn = iif(state = 1, turn, 1 + {_LAST_TURN}),
            failures = iif(state = 1, failures, 0), state = 1, lease_id = ?, reason = NULL
            WHERE task_id = ? AND file""",  # noqa: S608
            (blob_of(lease_id), blob_of(task_id)),
        )

    def settle(self, task_id: str, state: State, reason: str | None = None) -> None:
        """Note that what is owed was posted or refused."""
        # The plus keeps SQLite from going through all that is owed.
        query = "UPDATE records SET state = ?, reason = ? WHERE task_id = ? AND +state = 1"
        self._db.execute(query, (state, blob_of(reason), blob_of(task_id)))

    def fail(self, task_id: str) -> None:
        """Count one failure; each fifth sends the post to the back of the line."""
        self._db.execute(
            f"""UPDATE records SET failures = failures + 1,
            turn = iif((failures + 1) % ?, turn, 1 + {_LAST_TURN})
            WHERE task_id = ? AND +state = 1""",  # noqa: S608
            (COUNTED_FAILURES, blob_of(task_id)),
        )

    def known(self, task_id: str) -> Known | None:
        """What is noted of a recorded task, or None."""
        query = "SELECT digest, ifnull(state = 1, 0) FROM records WHERE task_id = ? ORDER BY seq"
        row = self._db.execute(query, (blob_of(task_id),)).fetchone()
        return Known(row[0], bool(row[1])) if row else None

    def places(self, task_id: str) -> list[Place]:
        """Where the records of a task are said to stand."""
        return list(self._places("WHERE task_id = ? ORDER BY seq", blob_of(task_id)))

    def all_places(self) -> Iterator[Place]:
        """Where all records are said to stand, oldest first."""
        return self._places("ORDER BY seq")

    def owed(self, most: int) -> list[Place]:
        """The first in the line of posts, ``most`` of them at most."""
        return list(self._places("WHERE state = 1 ORDER BY turn LIMIT ?", most))

    def _places(self, rest: str, *values: object) -> Iterator[Place]:
        query = f"""SELECT seq, name, ifnull(CAST(at AS INTEGER), 0), task_id, failures, lease_id
            FROM records CROSS JOIN files ON files.id = file {rest}"""  # noqa: S608
        for seq, name, at, task_id, failures, lease_id in self._db.execute(query, values):
            yield Place(seq, name, at, text_of(task_id), failures, text_of(lease_id))

    def owed_count(self) -> int:
        """The number of records still to be posted."""
        return int(self._value("SELECT count(*) FROM records WHERE state = 1"))

    def missing(self) -> int:
        """The number of tasks that are done though their records are in no file."""
        return int(self._value("SELECT count(*) FROM records WHERE file IS NULL"))

    def duplicates(self) -> int:
        """The number of records whose task is recorded before."""
        return int(self._value("SELECT count(task_id) - count(DISTINCT task_id) FROM records"))


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        schema = (*_TABLES, _BY_TASK, _BY_TURN)
        if version == 0:
            db.executescript(f"BEGIN; {'; '.join(schema)}; PRAGMA user_version = {VERSION}; COMMIT")
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"its version is {version}, not {VERSION}")
        (result,) = db.execute("PRAGMA integrity_check(1)").fetchone()
        if {sql for (sql,) in db.execute("SELECT sql FROM sqlite_master")} != {*schema}:
            result = "its tables are not as they were made"
        if result != "ok":
            raise sqlite3.DatabaseError(result)
    except BaseException as error:
        db.close()
        if isinstance(error, UnicodeDecodeError):  # SQLite cites what is damaged
            raise sqlite3.DatabaseError(f"damaged: {error}") from error
        raise
    return db
