"""Records for programs: JSON lines, CSV, the form of the earlier work, and SQLite."""

import csv
import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TextIO

from worker.errors import Stop, UsageError
from worker.record import EMOTIONS, Record
from worker.terminal import safe

BOX = ("x1", "y1", "x2", "y2")
OF_IMAGE = ("file_name", "processed_at", "threshold")
OF_FACE = ("face_id", *BOX, *EMOTIONS, "confidence")
ABOUT = ("image_size", "elapsed_ms", "expected", "error", "task_id", "worker", "network")
SEED_KEYS = ("file_name", "threshold", "faces")
FORMULA = ("=", "+", "-", "@")  # what a spreadsheet would compute instead of showing
SQLITE_HEAD = b"SQLite format 3\0"


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
    writer = csv.DictWriter(output, (*OF_IMAGE, *OF_FACE, *ABOUT), extrasaction="ignore")
    writer.writeheader()
    for record in records:
        image = _of_image(record)
        for face in record["faces"] or [{}]:
            line = image | _of_face(face)
            writer.writerow({key: _cell(value) for key, value in line.items()})


def write_sqlite(records: Iterable[Record], path: Path) -> None:
    """The records as the tables ``images`` and ``faces`` of a new SQLite file; one that is there is
    replaced. Raises UsageError for a file that is none, Stop when it cannot be written."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        if path.exists():
            with path.open("rb") as file:
                if file.read(len(SQLITE_HEAD)) not in (SQLITE_HEAD, b""):
                    raise UsageError(f"--sqlite {path} is there and no SQLite file; name another")
        partial.unlink(missing_ok=True)
        with closing(sqlite3.connect(partial)) as db, db:
            _fill(db, records)
        partial.replace(path)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise Stop(f"--sqlite {path} cannot be written: {error}") from error


def _fill(db: sqlite3.Connection, records: Iterable[Record]) -> None:
    of_image, of_face = (*OF_IMAGE, *ABOUT), ("image", *OF_FACE)
    db.execute(f"CREATE TABLE images (id INTEGER PRIMARY KEY, {', '.join(of_image)})")
    db.execute(f"CREATE TABLE faces ({', '.join(of_face)}, FOREIGN KEY(image) REFERENCES images)")
    for number, record in enumerate(records, 1):
        _insert(db, "images", {"id": number} | _of_image(record), ("id", *of_image))
        for face in record["faces"]:
            _insert(db, "faces", {"image": number} | _of_face(face), of_face)
    db.execute("CREATE INDEX faces_of_image ON faces (image)")


def _insert(db: sqlite3.Connection, table: str, row: Record, columns: tuple[str, ...]) -> None:
    values = [row.get(name) for name in columns]
    values = [safe(value) if isinstance(value, str) else value for value in values]
    marks = ", ".join("?" * len(columns))
    db.execute(f"INSERT INTO {table} VALUES ({marks})", values)  # noqa: S608 - names of ours


def _of_image(record: Record) -> dict[str, Any]:
    size, error = record.get("image_size"), record.get("error")
    expected = record.get("expected")
    return {
        **{key: record.get(key) for key in (*OF_IMAGE, *ABOUT)},
        "image_size": "x".join(map(str, size)) if size else None,
        "expected": None if expected is None else json.dumps(expected),
        "error": error["message"] if error else None,
    }


def _of_face(face: dict[str, Any]) -> dict[str, Any]:
    box = zip(BOX, map(int, face.get("bbox", ())), strict=False)
    return {key: face.get(key) for key in OF_FACE} | dict(box)


def _cell(value: Any) -> Any:
    """A value for a spreadsheet: text that looks like a formula is marked as text."""
    if not isinstance(value, str):
        return value
    text = safe(value)
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text
