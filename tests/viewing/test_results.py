"""`results`: filters, table, JSON lines and CSV over records."""

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from worker.errors import DatabaseUnusable, UsageError
from worker.record import Record
from worker.viewing.results import (
    Filter,
    checked,
    counts,
    distinct,
    faces_text,
    parse_time,
    read_files,
    select,
    table_rows,
    write_csv,
    write_json,
    write_seed_format,
)

ANGRY: Record = {
    "file_name": "angry.jpeg",
    "threshold": 0.2,
    "faces": [
        {"face_id": 1, "neutral": 0.21, "anger": 0.7, "bbox": ["71", "48", "154", "131"]},
        {"face_id": 2, "bbox": ["1", "2", "3", "4"]},
    ],
    "task_id": "t1",
    "processed_at": "2026-11-24T12:00:00.000Z",
}
EMPTY: Record = {
    "file_name": "wall.png",
    "threshold": 0.5,
    "faces": [],
    "task_id": "t2",
    "processed_at": "2026-11-25T12:00:00.000Z",
}
LOST: Record = {
    "file_name": "page.html",
    "threshold": None,
    "faces": [],
    "error": {"type": "not_an_image", "message": "it does not decode"},
    "task_id": "t3",
    "processed_at": "2026-11-26T12:00:00.000Z",
}
OLD: Record = {"file_name": "old.jpg", "threshold": 0.2, "faces": [{"face_id": 1, "fear": 0.9}]}
ALL = [ANGRY, EMPTY, LOST, OLD]


def chosen(last: int | None = None, **keys: object) -> list[str]:
    found = select(ALL, Filter(**keys), last)  # type: ignore[arg-type]
    return [record["file_name"] for record in found]


def test_records_are_chosen_by_emotion_file_name_time_and_number() -> None:
    assert chosen() == ["angry.jpeg", "wall.png", "page.html", "old.jpg"]
    assert chosen(emotion="anger") == ["angry.jpeg"]
    assert chosen(emotion="fear") == ["old.jpg"]
    assert chosen(emotion="disgust") == []
    assert chosen(file="*.png") == ["wall.png"]
    assert chosen(since=parse_time("2026-11-25")) == ["wall.png", "page.html"]
    assert chosen(until=parse_time("2026-11-25T12:00:00Z")) == ["angry.jpeg"]
    assert chosen(last=1, since=parse_time("2026-11-25")) == ["page.html"]
    assert chosen(last=2) == ["page.html", "old.jpg"]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
        ("2026-11-24T12:30:00Z", datetime(2026, 11, 24, 12, 30, tzinfo=UTC)),
        ("2026-11-24T12:30:00+02:00", datetime(2026, 11, 24, 10, 30, tzinfo=UTC)),
    ],
)
def test_times_without_a_zone_are_utc(text: str, time: datetime) -> None:
    assert parse_time(text) == time


@pytest.mark.parametrize("text", ["yesterday", "", "2026-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        parse_time(text)


def test_a_person_reads_the_surest_emotion_first() -> None:
    assert faces_text(ANGRY) == "1: anger 0.70, neutral 0.21; 2: -"
    assert faces_text(EMPTY) == "no face"
    assert faces_text(LOST) == "error: it does not decode"
    assert [row[2] for row in table_rows(ALL)] == ["0.2", "0.5", "-", "0.2"]
    posts = {"t1": "posted", "t3": "status 422"}
    assert [row[4] for row in table_rows(ALL, posts)] == ["posted", "-", "status 422", "-"]


def test_several_files_are_read_as_one_in_the_order_of_time(tmp_path: Path) -> None:
    def at(minute: int) -> Record:
        return EMPTY | {
            "processed_at": f"2026-11-24T12:{minute:02}:00.000Z",
            "task_id": f"{minute}",
        }

    def write(name: str, *records: Record) -> Path:
        table = {str(number): record for number, record in enumerate(records, 1)}
        (tmp_path / name).write_text(json.dumps({"images": table}))
        return tmp_path / name

    one = write("results-1.json", at(3), at(6))
    rotated = write("results-1.20261124T120230.000000Z.json", at(1), OLD, at(2))
    two = write("results-2.json", at(4), at(5), at(7))
    # As a shell gives `results-*.json`, and one of them once more, under another name.
    files = distinct([rotated, one, two, tmp_path / "x" / ".." / "results-2.json"])
    assert [path.name for path in files] == ["results-1.json", "results-2.json"]
    found = list(read_files(files))
    assert [record.get("task_id") for record in found] == [
        *("1", None, "2", "3", "4", "5", "6", "7"),
    ]
    write("results-2.json", at(4), {"name": "somebody"})
    with pytest.raises(DatabaseUnusable, match=r"results-2\.json: record 2 is not one of this"):
        list(read_files([one, two]))
    with pytest.raises(DatabaseUnusable, match=r"none\.json: cannot read it"):
        list(read_files([one, tmp_path / "none.json"]))


def test_counts_are_of_images_and_of_faces() -> None:
    images = {"images": 4, "no face": 1, "errors": 1, "faces": 3}
    some = {name: number for name, number in counts(ALL).items() if number}
    assert some == images | {"neutral": 1, "anger": 1, "fear": 1}
    assert list(counts([]).values()) == [0] * 12


def test_json_lines_are_the_records_as_they_stand() -> None:
    output = io.StringIO()
    write_json(ALL, output)
    assert [json.loads(line) for line in output.getvalue().splitlines()] == ALL


def test_csv_has_a_line_a_face_and_one_for_an_image_without() -> None:
    output = io.StringIO()
    write_csv(ALL, output)
    lines = list(csv.DictReader(io.StringIO(output.getvalue())))
    assert [line["file_name"] for line in lines] == ["angry.jpeg"] * 2 + [
        "wall.png",
        "page.html",
        "old.jpg",
    ]
    assert [lines[0][key] for key in ("face_id", "x1", "y2", "anger", "fear")] == [
        *("1", "71", "131", "0.7", ""),
    ]
    assert lines[3]["error"] == "it does not decode"


def test_the_earlier_form_is_a_list_with_three_keys_each() -> None:
    output = io.StringIO()
    write_seed_format(ALL, output)
    written = json.loads(output.getvalue())
    assert written == {
        "images": [
            {key: record[key] for key in ("file_name", "threshold", "faces")} for record in ALL
        ]
    }
    assert list(written["images"][0]) == ["file_name", "threshold", "faces"]
    nothing = io.StringIO()
    write_seed_format([], nothing)
    assert json.loads(nothing.getvalue()) == {"images": []}


@pytest.mark.parametrize(
    "odd",
    [
        {"x": 2},
        {"file_name": "a", "faces": 3},
        {"file_name": "a", "faces": ["a"]},
        {"file_name": "a", "faces": [{"face_id": 1, "anger": "much"}]},
        {"file_name": "a", "faces": [], "error": "broken"},
        {"file_name": "a", "faces": [], "error": {"message": "without a type"}},
        {"file_name": "a", "faces": [], "threshold": "low"},
        {"file_name": "a", "faces": [], "elapsed_ms": [1]},
        {"file_name": "a", "faces": [], "processed_at": "yesterday"},
    ],
)
def test_a_record_of_another_program_is_named(odd: Record) -> None:
    with pytest.raises(DatabaseUnusable, match="record 5 is not one of this worker"):
        list(checked([*ALL, odd], "r.json"))
