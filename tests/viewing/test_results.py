"""`results`: filters, table, JSON lines and CSV over records."""

import csv
import io
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.cells import cell_len

from worker.errors import DatabaseUnusable, Stop, UsageError
from worker.record import Record
from worker.terminal import safe
from worker.viewing.formats import json_line, write_csv, write_json, write_seed_format, write_sqlite
from worker.viewing.results import Filter, checked, counts, distinct, parse_time, read_files
from worker.viewing.table import lines, rows

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


def chosen(**keys: object) -> list[str]:
    found = Filter(**keys).select(ALL)  # type: ignore[arg-type]
    return [record["file_name"] for record in found]


def test_records_are_chosen_by_emotion_file_name_time_and_number() -> None:
    assert chosen() == ["angry.jpeg", "wall.png", "page.html", "old.jpg"]
    assert chosen(emotions=["anger"]) == ["angry.jpeg"]
    assert chosen(emotions=["fear"]) == ["old.jpg"]
    assert chosen(emotions=["fear", "anger"]) == ["angry.jpeg", "old.jpg"]
    assert chosen(emotions=["disgust"]) == []
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


def test_a_line_a_face_with_the_surest_emotion_first() -> None:
    posts = {"t1": "posted", "t3": "status 422"}
    assert [row[1:] for row in rows(ALL, posts)] == [
        ("angry.jpeg", "0.2", "1", "anger 0.70, neutral 0.21", "posted"),
        ("angry.jpeg", "0.2", "2", "-", "posted"),
        ("wall.png", "0.5", "-", "no face", "-"),
        ("page.html", "-", "-", "error: it does not decode", "status 422"),
        ("old.jpg", "0.2", "1", "fear 0.90", "-"),
    ]


def test_on_a_terminal_of_80_columns_nothing_is_broken_or_longer() -> None:
    long = ANGRY | {"file_name": "a-name-that-is-much-longer-than-its-column-is-wide.jpeg"}
    wide = EMPTY | {"file_name": "笑" * 40 + ".png"}
    many = {"face_id": 3, **dict.fromkeys(("neutral", "happiness", "surprise", "fear"), 0.2)}
    crowd = OLD | {"faces": [many], "file_name": "\x1b[31mred"}
    table = list(rows([*ALL, long, wide, crowd], {"t1": "status 422: no complete record"}))
    shown = list(lines(table, 80))
    assert shown[:6] == [
        "time         file              ≥     face  emotions                     post",
        "11-24 12:00  angry.jpeg        0.2   1     anger 0.70, neutral 0.21     status…",
        "11-24 12:00  angry.jpeg        0.2   2     -                            status…",
        "11-25 12:00  wall.png          0.5   -     no face                      -",
        "11-26 12:00  page.html         -     -     error: it does not decode    -",
        "-            old.jpg           0.2   1     fear 0.90                    -",
    ]
    assert max(map(cell_len, shown)) <= 80
    assert any("a-name-that-is-…" in line for line in shown)
    assert any("neutral 0.20, …" in line for line in shown)
    assert "\x1b" not in "".join(shown)
    assert list(lines(table, None)) == ["\t".join(map(safe, row)) for row in table]


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


def test_json_lines_steer_no_terminal_and_read_back() -> None:
    name = "\x1b[31m \x9b0m \u202e grüße 笑 \udc80 \U000e0001.png"
    line = json_line({"file_name": name})
    assert line.isprintable()
    assert "grüße 笑" in line
    assert json.loads(line) == {"file_name": name}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1+1", "@SUM(A1)", " =1", "\t=1"])
def test_csv_has_no_formula_in_it(text: str) -> None:
    output = io.StringIO()
    record = LOST | {"file_name": text, "error": {"type": "x", "message": text}, "worker": text}
    write_csv([record], output)
    (line,) = csv.DictReader(io.StringIO(output.getvalue()))
    for key in ("file_name", "error", "worker"):
        assert not line[key].lstrip().startswith(("=", "+", "-", "@"))


def test_sqlite_has_images_and_faces(tmp_path: Path) -> None:
    file = tmp_path / "r.db"
    huge = EMPTY | {"elapsed_ms": 10**30}
    odd = EMPTY | {"file_name": "\ud800", "image_size": [4, 3], "elapsed_ms": float("nan")}
    for _ in range(2):  # the second replaces the first
        write_sqlite([*ALL, odd], file)
    with closing(sqlite3.connect(file)) as db:
        names = [name for (name,) in db.execute("SELECT file_name FROM images ORDER BY id")]
        assert names == ["angry.jpeg", "wall.png", "page.html", "old.jpg", "\ufffd"]
        found = db.execute(
            "SELECT file_name, face_id, x1, anger FROM faces JOIN images ON images.id = image "
            "WHERE anger > 0.5"
        ).fetchall()
        assert found == [("angry.jpeg", 1, 71, 0.7)]
        assert db.execute("SELECT error, threshold FROM images WHERE id = 3").fetchall() == [
            ("it does not decode", None)
        ]
    (tmp_path / "results.json").write_text("{}")
    before = file.read_bytes()
    for path, record in (("results.json", EMPTY), ("none/r.db", EMPTY), ("r.db", huge)):
        with pytest.raises(Stop, match="cannot be written"):
            write_sqlite([record], tmp_path / path)
    assert file.read_bytes() == before
    assert (tmp_path / "results.json").read_text() == "{}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.db", "results.json"]


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
        {"file_name": "a", "faces": [{"face_id": 1, "bbox": ["1", "2", "3", "x"]}]},
        {"file_name": "a", "faces": [{"face_id": 1, "bbox": ["1", "2", "3", "--4"]}]},
        {"file_name": 3, "faces": []},
        {"file_name": "a", "faces": [], "error": "broken"},
        {"file_name": "a", "faces": [], "error": {"message": "without a type"}},
        {"file_name": "a", "faces": [], "error": None},
        {"file_name": "a", "faces": [], "task_id": ["t"]},
        {"file_name": "a", "faces": [], "image_size": 5},
        {"file_name": "a", "faces": [{"face_id": 10**20}]},
        {"file_name": "a", "faces": [], "threshold": 10**400},
        {"file_name": "a", "faces": [], "threshold": "low"},
        {"file_name": "a", "faces": [], "elapsed_ms": [1]},
        {"file_name": "a", "faces": [], "processed_at": "yesterday"},
    ],
)
def test_a_record_of_another_program_is_named(odd: Record) -> None:
    with pytest.raises(DatabaseUnusable, match="record 5 is not one of this worker"):
        list(checked([*ALL, odd], "r.json"))
