"""The sidecar `<name>.index`: where each record stands, and what became of its post.

An SQLite database, so that memory stays flat at any number of records. All of it but the state of
the posts can be made again from the JSON files, which always win. A power cut may cost its latest
changes; the next open finds those records in the file.
"""

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from enum import IntEnum
from itertools import chain, islice
from pathlib import Path

from worker.database.reader import Documents, read_document, task_id_of
from worker.database.told import MADE_AGAIN, Disagrees, Known, Owed, can_wait

logger = logging.getLogger(__name__)

BATCH = 200  # rows that are inserted by one statement, which halves the time that they take
GONE = (
    "%s: the records of %d tasks are in no file any longer; these tasks stay done, and %d results "
    "that were still to be posted are dropped"
)
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
_SCHEMA = {*_TABLES, _BY_TASK, _BY_TURN}
_LAST_TURN = "(SELECT ifnull(max(turn), 0) FROM records WHERE state = 1)"
_LOST = "NOT EXISTS (SELECT 1 FROM records WHERE records.task_id = former.task_id)"
_COUNT_LOST = f"""SELECT count(*), ifnull(sum(state = 1), 0) FROM old.records AS former
    WHERE file AND {_LOST}"""  # noqa: S608
_TAKE_OVER = f"""
    UPDATE records SET (digest, state, turn, failures, lease_id, reason) =
    (former.digest, former.state, former.turn, former.failures, former.lease_id, former.reason)
    FROM old.records AS former WHERE former.task_id = records.task_id;
    INSERT INTO records (task_id, digest, state) SELECT task_id, digest, 0
    FROM old.records AS former WHERE task_id IS NOT NULL AND {_LOST};
"""  # noqa: S608


class State(IntEnum):
    """What became of a post; KEPT: none was asked for."""

    KEPT = 0
    OWED = 1
    POSTED = 2
    REFUSED = 3


class Index:
    """One connection; its user keeps threads apart. Every method may raise sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        """Open the sidecar; next comes `agrees`."""
        self._path = path
        self._db = _connect(path)
        self.is_sound = False  # whether what it knows of posts can be believed

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def agrees(self, family: Sequence[Path]) -> bool:
        """Whether it is as it was made, and has these files and no others, and each one's last
        record where it stands. The log says if it is damaged."""
        self.is_sound = False
        try:
            (result,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
            schema = {sql for (sql,) in self._db.execute("SELECT sql FROM sqlite_master")}
            if not schema:
                return False
            if schema != _SCHEMA:
                result = "its tables are not as they were made"
            if result != "ok":
                raise sqlite3.DatabaseError(result)
            rows = self._db.execute("SELECT name, top FROM files ORDER BY id")
            tops = {name: int(top) for name, top in rows}
            self._posts("WHERE seq IN (SELECT max(seq) FROM records GROUP BY file)")
        except Disagrees:
            tops = {}
        except (sqlite3.Error, TypeError, ValueError) as error:  # ValueError: SQLite cites damage
            if can_wait(error):
                raise
            logger.error(MADE_AGAIN, self._path, error)
            return False
        self.is_sound = True
        return list(tops) == [file.name for file in family]

    def rebuild(self, family: Sequence[Path]) -> None:
        """Make the index again from all files, oldest first; what is known of posts is kept if it
        is sound.

        Tasks that are in none of them stay known; the log says how many of these were in one
        before, and how many of their results were still to be posted. Until it is complete the
        former one stays. Raises OSError, DatabaseUnusable.
        """
        fresh = self._path.with_name(f"{self._path.name}.new")
        fresh.unlink(missing_ok=True)
        with closing(_connect(fresh)) as db:
            # Nothing is written twice, since there is nothing to lose.
            db.executescript(f"PRAGMA journal_mode = OFF; {'; '.join(_TABLES)}; BEGIN")
            for file in family:
                db.execute("INSERT INTO files (name) VALUES (?)", (file.name,))
                _fill(db, Documents(file))
            db.commit()
            db.execute(_BY_TASK)
            if self.is_sound:
                try:
                    self._take_over(db, family[-1])
                except sqlite3.Error as error:
                    self.is_sound = can_wait(error)
                    raise
            db.execute(_BY_TURN)
        self.close()
        try:
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            fresh.replace(self._path)
        finally:
            self._db = _connect(self._path)
        self.is_sound = True

    def _take_over(self, db: sqlite3.Connection, path: Path) -> None:
        db.execute("ATTACH ? AS old", (str(self._path),))
        gone, dropped = db.execute(_COUNT_LOST).fetchone()
        if gone:
            logger.warning(GONE, path, gone, dropped)
        db.executescript(_TAKE_OVER)

    def extend(self, path: Path, *, owe: bool) -> Documents:
        """Add what one of the files has behind its last known record; returns what was read, with
        the largest id of the whole file.

        ``owe``: owe all that was ever found in a file, but for what became of a post already.
        """
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        last = """SELECT at FROM records CROSS JOIN files ON files.id = file
            WHERE name = ? ORDER BY seq DESC LIMIT 1"""
        (at,) = self._db.execute(last, (path.name,)).fetchone() or (0,)
        documents = Documents(path, at)
        with self.changes():
            _fill(self._db, documents)
            if owe:
                self._db.execute(
                    f"""UPDATE records SET state = 1, turn = seq + {_LAST_TURN}
                    WHERE state IS NULL AND task_id IS NOT NULL"""  # noqa: S608
                )
        return documents

    @contextmanager
    def changes(self) -> Iterator[None]:
        """Of what is changed within, all is kept or, after an error, nothing."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield

    def add(
        self, name: str, at: int, top: int, task_id: str | None, lease_id: str | None, known: Known
    ) -> None:
        """Note the record that was just appended to file ``name``, at byte ``at``."""
        self._db.execute("UPDATE files SET top = ? WHERE name = ?", (str(top), name))
        self._db.execute(
            f"""INSERT INTO records (file, at, task_id, digest, lease_id, state, turn)
            SELECT id, ?, ?, ?, ?, ?, 1 + {_LAST_TURN} FROM files WHERE name = ?""",  # noqa: S608
            (at, blob_of(task_id), known.digest, blob_of(lease_id), int(known.owed), name),
        )

    def rotate(self, name: str, target: str) -> None:
        """Note that file ``name`` is now called ``target``, and that a new one took its name."""
        self._db.execute("UPDATE files SET name = ? WHERE name = ?", (target, name))
        self._db.execute("INSERT INTO files (name) VALUES (?)", (name,))

    def owe(self, task_id: str, lease_id: str | None) -> None:
        """Owe a recorded task with this lease, at the back of the line unless it is in it."""
        self._db.execute(
            f"""UPDATE records SET turn = iif(state = 1, turn, 1 + {_LAST_TURN}),
            failures = iif(state = 1, failures, 0), state = 1, lease_id = ?, reason = NULL
            WHERE task_id = ? AND file""",  # noqa: S608
            (blob_of(lease_id), blob_of(task_id)),
        )

    def settle(self, task_id: str, refusal: str | None) -> None:
        """Note that what is owed was posted or, with a reason, refused."""
        state = State.POSTED if refusal is None else State.REFUSED
        # The plus keeps SQLite from going through all that is owed.
        query = "UPDATE records SET state = ?, reason = ? WHERE task_id = ? AND +state = 1"
        self._db.execute(query, (state, blob_of(refusal), blob_of(task_id)))

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

    def find(self, task_id: str) -> Owed | None:
        """A task with its record, or None if this is in no file. Raises OSError."""
        found = self._posts("WHERE task_id = ? ORDER BY seq LIMIT 1", blob_of(task_id))
        return found[0] if found else None

    def owed(self, most: int) -> list[Owed]:
        """The first in the line of posts, ``most`` of them at most. Raises OSError."""
        return self._posts("WHERE state = 1 ORDER BY turn LIMIT ?", most)

    def _posts(self, rest: str, *values: object) -> list[Owed]:
        query = f"""SELECT name, at, task_id, lease_id
            FROM records CROSS JOIN files ON files.id = file {rest}"""  # noqa: S608
        posts = []
        try:
            for name, at, task_id, lease_id in self._db.execute(query, values):
                record = read_document(self._path.parent / name, at)
                if record is None or blob_of(task_id_of(record)) != task_id:
                    raise Disagrees(f"there is no such record at byte {at} of {name}")
                posts.append(Owed(task_id_of(record) or "", text_of(lease_id), record))
        except (TypeError, ValueError) as error:
            raise sqlite3.DatabaseError(f"a value of another type: {error}") from error
        return posts

    def owed_count(self) -> int:
        """The number of records still to be posted."""
        query = "SELECT count(*) FROM records WHERE state = 1"
        return int(self._db.execute(query).fetchone()[0])

    def counts(self) -> tuple[int, int, int]:
        """The number of records whose task is recorded before, that of tasks that are done though
        their records are in no file, and that of records still to be posted."""
        (duplicates, missing, owed) = self._db.execute(
            """SELECT count(task_id) - count(DISTINCT task_id), count(*) - count(file),
            count(nullif(state = 1, 0)) FROM records"""
        ).fetchone()
        return duplicates, missing, owed

    def compare(self, family: Sequence[Path]) -> tuple[int, bool]:
        """Read all documents of all files, oldest first: how many there are, and whether each one
        stands where it is said to. Raises DatabaseUnusable for what is no TinyDB file."""
        documents, agrees = 0, True
        places = self._db.execute(
            "SELECT name, at, task_id FROM records CROSS JOIN files ON files.id = file ORDER BY seq"
        )
        for path in family:
            for entry in Documents(path):
                documents += 1
                place = path.name, entry.at, blob_of(task_id_of(entry.document))
                agrees &= places.fetchone() == place
        return documents, agrees and places.fetchone() is None


def blob_of(text: str | None) -> bytes | None:
    """A text as it is stored: as bytes, since SQLite's text takes no lone surrogate."""
    return None if text is None else text.encode("utf-8", "surrogatepass")


def text_of(blob: bytes | None) -> str | None:
    """The text that is stored as these bytes. Raises ValueError or TypeError if it cannot be."""
    return None if blob is None else str(blob, "utf-8", "surrogatepass")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def _fill(db: sqlite3.Connection, documents: Documents) -> None:
    """Add what ``documents`` has behind the record that it begins with, if any."""
    begin = documents.end
    query = "SELECT id, top FROM files WHERE name = ?"
    file, top = db.execute(query, (documents.path.name,)).fetchone()
    rows = (
        (entry.at, blob_of(task_id_of(entry.document))) for entry in documents if entry.at > begin
    )
    while batch := list(islice(rows, BATCH)):
        places = ", ".join([f"({file}, ?, ?)"] * len(batch))
        query = f"INSERT INTO records (file, at, task_id) VALUES {places}"  # noqa: S608
        db.execute(query, list(chain.from_iterable(batch)))
    documents.top = max(documents.top, int(top))
    db.execute("UPDATE files SET top = ? WHERE id = ?", (str(documents.top), file))
