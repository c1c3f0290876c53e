"""`results`: look into the JSON files, as a table, counts, JSON lines or CSV."""

import csv
import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from heapq import merge
from pathlib import Path
from typing import Any, TextIO

from worker.database.reader import read_records, rotated_files
from worker.errors import DatabaseUnusable, UsageError
from worker.record import EMOTIONS, Record
from worker.terminal import safe

CSV_COLUMNS = (
    *("file_name", "processed_at", "threshold", "face_id", "x1", "y1", "x2", "y2"),
    *EMOTIONS,
    *("error", "task_id", "worker", "network"),
)

SEED_KEYS = ("file_name", "threshold", "faces")


@dataclass(frozen=True)
class Filter:
    """Which records to show; None: all. Times are aware, ``since`` inclusive, ``until`` not.

    ``emotion``: a face reached the threshold for it. ``file``: a shell pattern for the file name.
    """

    emotion: str | None = None
    file: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, record: Record) -> bool:
        if self.emotion and not any(self.emotion in face for face in record["faces"]):
            return False
        if self.file and not fnmatch(str(record["file_name"]), self.file):
            return False
        if self.since or self.until:
            # A record of an earlier program has no time; no filter by time can include it.
            if "processed_at" not in record:
                return False
            processed = parse_time(record["processed_at"])
            if (self.since and processed < self.since) or (self.until and processed >= self.until):
                return False
        return True


def parse_time(text: str) -> datetime:
    """An ISO 8601 date or time, taken as UTC where it names no zone.

    Raises UsageError where it is none.
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
            if "processed_at" in record:
                parse_time(record["processed_at"])
            _ = record["file_name"], faces_text(record), record.get("error", {"type": 0})["type"]
            _ = float(record.get("threshold") or 0), float(record.get("elapsed_ms", 0))
        except (LookupError, TypeError, AttributeError, ValueError, UsageError) as odd:
            raise DatabaseUnusable(
                f"{name}: record {number} is not one of this worker, the file may be another "
                f"program's ({type(odd).__name__}: {safe(odd)})"
            ) from odd
        yield record


def select(records: Iterable[Record], chosen: Filter, last: int | None) -> Iterable[Record]:
    """The records that match, the ``last`` of them where that is given, in order."""
    matching = filter(chosen.matches, records)
    return matching if last is None else deque(matching, maxlen=last)


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


def faces_text(record: Record) -> str:
    """The faces of a record in one line for a person."""
    if "error" in record:
        return f"error: {record['error']['message']}"
    if not record["faces"]:
        return "no face"
    return "; ".join(
        f"{face['face_id']}: " + (", ".join(f"{k} {v:.2f}" for k, v in emotions(face)) or "-")
        for face in record["faces"]
    )


def emotions(face: dict[str, Any]) -> list[tuple[str, float]]:
    """The emotions of a stored face with their probabilities, the surest first."""
    named = [(name, face[name]) for name in EMOTIONS if name in face]
    return sorted(named, key=lambda pair: -pair[1])


def table_rows(
    records: Iterable[Record], posts: Mapping[str, str] | None = None
) -> Iterator[tuple[str, ...]]:
    """Time, file, threshold and faces of each record; with ``posts``, what became of its post, by
    task id, as well."""
    for record in records:
        threshold = record.get("threshold")
        yield (
            str(record.get("processed_at", "-")),
            str(record["file_name"]),
            "-" if threshold is None else f"{threshold:g}",
            faces_text(record),
            *(() if posts is None else (posts.get(record.get("task_id", ""), "-"),)),
        )


def write_json(records: Iterable[Record], output: TextIO) -> None:
    """One record a line, as it stands in the file."""
    for record in records:
        output.write(json.dumps(record, ensure_ascii=False) + "\n")


def write_seed_format(records: Iterable[Record], output: TextIO) -> None:
    """One JSON object with a list of all records, each with the three keys of the earlier work."""
    output.write('{"images": [')
    for number, record in enumerate(records):
        plain = {key: record[key] for key in SEED_KEYS if key in record}
        output.write((",\n" if number else "\n") + json.dumps(plain))
    output.write("\n]}\n")


def write_csv(records: Iterable[Record], output: TextIO) -> None:
    """One line a face; an image without a face, or with an error, has one line with none."""
    writer = csv.DictWriter(output, CSV_COLUMNS, extrasaction="ignore")
    writer.writeheader()
    for record in records:
        common = {**record, "error": record.get("error", {}).get("message", "")}
        for face in record["faces"] or [{}]:
            box = dict(zip(("x1", "y1", "x2", "y2"), face.get("bbox", ()), strict=False))
            writer.writerow({**common, **face, **box})
