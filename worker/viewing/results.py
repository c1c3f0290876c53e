"""`results`: which records of the JSON files are wanted, and what is counted of them."""

import re
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import translate
from heapq import merge
from pathlib import Path
from typing import Any

from tinydb import Query, where
from tinydb.queries import QueryLike

from worker.database import read_records, rotated_files
from worker.errors import DatabaseUnusable, UsageError
from worker.record import EMOTIONS, Record

SIDE = re.compile(r"-?\d{1,9}")  # of a box, as text
LARGE = 2**63  # no whole number of ours is that large: neither SQLite nor a float may hold it


@dataclass(frozen=True)
class Filter:
    """Which records to show; all that is None or empty lets everything through.

    ``emotions``: a face reached the threshold for one of them. ``file``: a shell pattern for the
    file name. Times are aware, ``since`` inclusive, ``until`` not; a record of an earlier program,
    which has no time, is in no period. ``last``: only so many of those.
    """

    emotions: Collection[str] = ()
    file: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    last: int | None = None

    def query(self) -> QueryLike:
        """The TinyDB query that a record has to match."""
        query = Query().noop()
        if self.emotions:
            query &= where("faces").test(lambda faces: any(map(self.has_emotion, faces)))
        if self.file:
            query &= where("file_name").matches(translate(self.file))
        if since := self.since:
            query &= where("processed_at").test(lambda time: parse_time(str(time)) >= since)
        if until := self.until:
            query &= where("processed_at").test(lambda time: parse_time(str(time)) < until)
        return query

    def has_emotion(self, face: dict[str, Any]) -> bool:
        """Whether a stored face reached the threshold for one of the emotions."""
        return not self.emotions or any(name in face for name in self.emotions)

    def select(self, records: Iterable[Record]) -> Iterable[Record]:
        """The records that are wanted, whole and in order."""
        matching = filter(self.query(), records)
        return matching if self.last is None else deque(matching, maxlen=self.last)

    def narrow(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records with those of their faces only that are wanted."""
        for record in records:
            yield {**record, "faces": [face for face in record["faces"] if self.has_emotion(face)]}

    def words(self) -> str:
        """What is asked for, for a heading: nothing, or such as ``; last: 5``."""
        asked = {**vars(self), "emotions": " or ".join(self.emotions)}
        return "".join(f"; {name}: {value}" for name, value in asked.items() if value)


def parse_time(text: str) -> datetime:
    """An ISO 8601 date or time, taken as UTC if it names no zone.

    Raises UsageError if it is none.
    """
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{text!r} is no time; write 2026-11-24 or 2026-11-24T12:00:00Z"
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def distinct(paths: Iterable[Path]) -> list[Path]:
    """The files, each once, without those that rotation made of another one: these come with it."""
    named = {path.resolve(): path for path in paths}
    rotated = {part for path in named if path.parent.is_dir() for part in rotated_files(path)}
    return [path for place, path in named.items() if place not in rotated]


def read_files(paths: Iterable[Path]) -> Iterator[Record]:
    """The records of several files, and of what rotation made of each, in the order of their time.

    Raises DatabaseUnusable for a file that cannot be read, or a record that is none of ours.
    """
    files = [checked(read_records(path), path.name) for path in paths]
    return merge(*files, key=lambda record: str(record.get("processed_at", "")))


def checked(records: Iterable[Record], name: str) -> Iterator[Record]:
    """The records as they are. Raises DatabaseUnusable at one that is none of ours; ``name``: of
    the file, for the message."""
    for number, record in enumerate(records, 1):
        try:
            parse_time(record.get("processed_at", "2000-01-01"))
            ours = _is_ours(record)
        except UsageError:
            ours = False
        if not ours:
            raise DatabaseUnusable(
                f"{name}: record {number} is not one of this worker, the file may be another "
                "program's"
            )
        yield record


def _is_ours(record: Record) -> bool:
    """Whether a record holds what this worker writes, as far as it is read here."""
    optional: Record = {"error": {"type": "", "message": ""}, "task_id": None, "image_size": []}
    match optional | record:
        case {
            "file_name": str(),
            "faces": [*faces],
            "error": {"type": str(), "message": str()},
            "task_id": str() | None,
            "image_size": [*_],
        }:
            return _are_numbers(record, "threshold", "elapsed_ms") and all(map(_is_face, faces))
    return False


def _is_face(face: Any) -> bool:
    match face:
        case {"face_id": int(), **others}:
            box = others.get("bbox", [])
            return (
                isinstance(box, list)
                and all(isinstance(side, str) and SIDE.fullmatch(side) for side in box)
                and _are_numbers(face, "face_id", *EMOTIONS)
            )
    return False


def _are_numbers(entry: Record, *keys: str) -> bool:
    values = [entry.get(key) for key in keys]
    return all(
        isinstance(value, float | None) or (isinstance(value, int) and abs(value) < LARGE)
        for value in values
    )


def counts(records: Iterable[Record]) -> dict[str, int]:
    """How many images there are, and how many of them without a face or with an error; how many
    faces, and how many of them reached the threshold for each emotion."""
    found = Counter(dict.fromkeys(("images", "no face", "errors", "faces", *EMOTIONS), 0))
    for record in records:
        kind = ["errors"] if "error" in record else ["no face"] if not record["faces"] else []
        found.update(["images", *kind])
        for face in record["faces"]:
            found.update(["faces", *(name for name in EMOTIONS if name in face)])
    return found
