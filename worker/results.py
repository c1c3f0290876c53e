"""`results`: look into the JSON file, as a table, JSON, JSON lines or CSV."""

import csv
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from typing import Any, TextIO

from worker.emotions import EMOTIONS
from worker.errors import DatabaseUnusable, UsageError
from worker.record import Record
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


# What going through a record of another form leads to.
ODD = (KeyError, TypeError, AttributeError, ValueError, OverflowError, UsageError)


def not_ours(number: int, odd: Exception) -> DatabaseUnusable:
    """The error about a record of another form; ``number``: which, from 1."""
    return DatabaseUnusable(
        f"record {number} is not one of this worker, the file may be another program's "
        f"({type(odd).__name__}: {safe(odd)})"
    )


def select(records: Iterable[Record], chosen: Filter, last: int | None) -> Iterable[Record]:
    """The records that match, the ``last`` of them where that is given, in order.

    Raises DatabaseUnusable for a record that is none of ours, with its number.
    """
    matching = (record for record in _checked(records) if chosen.matches(record))
    return matching if last is None else deque(matching, maxlen=last)


def _checked(records: Iterable[Record]) -> Iterator[Record]:
    for number, record in enumerate(records, 1):
        try:
            if "processed_at" in record:
                parse_time(record["processed_at"])
            _ = record["file_name"], len(record["faces"]), faces_text(record)
        except ODD as odd:
            raise not_ours(number, odd) from odd
        yield record


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
