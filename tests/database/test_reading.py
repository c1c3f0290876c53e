"""Reading a file of any form, beside a writer, without changing it."""

import json
import threading
from pathlib import Path

import pytest

from tests.database.helpers import Record, line, record, store, task_ids
from worker.database import (
    Database,
    Rotation,
    read_records,
)
from worker.errors import DatabaseUnusable


def test_records_come_in_order_from_a_file_of_any_form(path: Path) -> None:
    tables = {"a": {"1": {"x": 0}}, "images": {"1": {"é": 1}, "3": {"x": 2}}, "b": {}}
    path.write_text(json.dumps(tables, indent=1, ensure_ascii=False), encoding="utf-8")
    assert list(read_records(path)) == [{"é": 1}, {"x": 2}]


def test_a_torn_tail_is_passed_over(path: Path) -> None:
    store(path, "t1", "t2")
    path.write_bytes(path.read_bytes()[:-10])
    assert task_ids(path) == ["t1"]


def test_an_empty_file_has_no_record(path: Path) -> None:
    path.touch()
    assert list(read_records(path)) == []


@pytest.mark.parametrize("content", [None, "<html>", '{"a": 1}'])
def test_what_cannot_be_read_is_one_clear_error(path: Path, content: str | None) -> None:
    if content is not None:
        path.write_text(content)
    with pytest.raises(DatabaseUnusable, match=r"results\.json"):
        list(read_records(path))


def test_a_reader_beside_a_writer_sees_whole_records_and_no_error(path: Path) -> None:
    with Database(path, rotation=Rotation(max_bytes=200_000)) as database:
        ended = threading.Event()

        def write() -> None:
            for number in range(300):
                database.append(record(f"t{number}", text="x" * (number * 37 % 5000)))
            ended.set()

        writer = threading.Thread(target=write)
        writer.start()
        while not ended.is_set():
            seen = task_ids(path)
            assert seen == [f"t{number}" for number in range(len(seen))]
        writer.join()
    assert len(task_ids(path)) == 300


def test_a_large_file_is_read_and_indexed_alike_whatever_its_records_hold(path: Path) -> None:
    # Given: more than one block of each kind of neighbour that a document can have
    documents: dict[int, Record] = {}
    for n in range(1, 2500):
        documents[n + (n > 1000) * 7 + (n == 2000) * 100_000] = {
            **({"quoted": {"task_id": f"other{n}"}} if n % 700 == 3 else {}),
            **({"nested": {"a": {}, "12": {"task_id": "b"}}} if n % 900 == 5 else {}),
            "faces": [{"face_id": 1}, {"text": '}, "7": {'}],
            **({"error": {"type": "x"}} if n % 5 else {}),
            **({"task_id": f"t{n}"} if n % 11 else {}),
            "end": "}, ",
        }
    path.write_text(json.dumps({"images": documents}))
    expected = [d["task_id"] for d in documents.values() if "task_id" in d]
    # When: it is opened without an index
    with Database(path, owe=True) as database:
        # Then: its tasks are known, and nothing else is
        assert all(map(database.known, expected[::50]))
        assert not any(map(database.known, ("b", "other3", "t11")))
        assert line(database) == expected
        assert database.append({"x": 1})
    assert [d.get("task_id") for d in read_records(path)][:-1] == [
        d.get("task_id") for d in documents.values()
    ]
    assert list(json.loads(path.read_bytes())["images"])[-1] == "102008"
