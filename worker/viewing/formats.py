"""Records for programs: JSON lines, CSV, the form of the earlier work, and SQLite."""

import csv
import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

from worker.errors import Stop
from worker.record import EMOTIONS, Record
from worker.terminal import safe

BOX = ("x1", "y1", "x2", "y2")
OF_IMAGE = ("file_name", "processed_at", "threshold")
OF_FACE = ("face_id", *BOX, *EMOTIONS, "confidence")
ABOUT = ("image_size", "elapsed_ms", "expected", "error", "task_id", "worker", "network")
SEED_KEYS = ("file_name", "threshold", "faces")
FORMULA = ("=", "+", "-", "@")  # what a spreadsheet would compute instead of showing
TABLES = (
    "DROP TABLE IF EXISTS faces",
    "DROP TABLE IF EXISTS images",
    f"CREATE TABLE images (id INTEGER PRIMARY KEY, {', '.join((*OF_IMAGE, *ABOUT))})",
    f"CREATE TABLE faces (image REFERENCES images, {', '.join(OF_FACE)})",
)


def json_line(record: Record) -> str:
    """A record as it stands in the file; what could steer a terminal is escaped."""
    text = json.dumps(record, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def write_json(records: Iterable[Record], output: TextIO) -> None:
    """One record a line."""
    for record in records:
        output.write(json_line(record) + "\n")


def write_seed_format(records: Iterable[Record], output: TextIO) -> None:
    """One JSON object with a list of all records, each with the three keys of the earlier work."""
    output.write('{"images": [')
    for number, record in enumerate(records):
        plain = {key: record[key] for key in SEED_KEYS if key in record}
        output.write((",\n" if number else "\n") + json.dumps(plain))
    output.write("\n]}\n")


def write_csv(records: Iterable[Record], output: TextIO) -> None:
    """One line a face; an image without a face, or with an error, has one line with none."""
    writer = csv.writer(output)
    writer.writerow((*OF_IMAGE, *OF_FACE, *ABOUT))
    for record in records:
        front, end = _values(record, OF_IMAGE), _values(record, ABOUT)
        for face in record["faces"] or [{}]:
            writer.writerow(map(_no_formula, (*front, *_values(face, OF_FACE), *end)))


def write_sqlite(records: Iterable[Record], path: Path) -> None:
    """The records as the tables ``images`` and ``faces`` of a SQLite file, in place of those that
    are there. Raises Stop if it is none or cannot be written; it is then as it was before."""
    try:
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("BEGIN")
            for statement in TABLES:
                db.execute(statement)
            for number, record in enumerate(records, 1):
                _insert(db, "images", [number, *_values(record, (*OF_IMAGE, *ABOUT))])
                for face in record["faces"]:
                    _insert(db, "faces", [number, *_values(face, OF_FACE)])
    except (sqlite3.Error, OverflowError) as error:
        raise Stop(f"--sqlite {path} cannot be written: {error}") from error


def _insert(db: sqlite3.Connection, table: str, row: list[Any]) -> None:
    marks = ", ".join("?" * len(row))
    db.execute(f"INSERT INTO {table} VALUES ({marks})", row)  # noqa: S608 - names of ours


def _values(entry: Record, columns: Sequence[str]) -> list[Any]:
    """What a record or one of its faces has in these columns: numbers, texts that steer no
    terminal, and None."""
    flat = entry | dict(zip(BOX, map(int, entry.get("bbox", ())), strict=False))
    if size := entry.get("image_size"):
        flat["image_size"] = "x".join(map(str, size))
    if error := entry.get("error"):
        flat["error"] = error["message"]
    values = map(flat.get, columns)
    return [each if isinstance(each, int | float | None) else safe(each) for each in values]


def _no_formula(value: Any) -> Any:
    is_formula = isinstance(value, str) and value.lstrip().startswith(FORMULA)
    return f"'{value}" if is_formula else value


WRITERS = {"json": write_json, "csv": write_csv, "seed-format": write_seed_format}
