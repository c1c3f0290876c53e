"""What else may lie in the folder, and in the sidecar: it ends nothing and forgets nothing."""

import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tinydb import TinyDB

from tests.database.helpers import few, first_owed, line, new_path, record, sidecar, store, task_ids
from worker.database import Database, Rotation, posting_states, read_records, verify


@settings(few, max_examples=20)
@given(data=st.data())
def test_random_bytes_in_the_index_double_no_task_and_forget_none(
    fresh: Path, data: st.DataObject
) -> None:
    # Given: 15 tasks, and random bytes somewhere in one of the files of the index, or in all of it
    path = new_path(fresh)
    names = [f"t{n}-{'x' * 300}" for n in range(20)]
    store(path, *names[:15], owe=True)
    suffix = data.draw(st.sampled_from(["", "", "-wal", "-shm"]), "which file")
    index = path.with_name(sidecar(path).name + suffix)
    content = bytearray(index.read_bytes() if index.exists() else b"")
    start = data.draw(st.integers(0, len(content)), "from")
    noise = data.draw(st.randoms(use_true_random=False)).randbytes(
        data.draw(st.sampled_from([1, 16, 600, 5000, 50_000]), "how many")
    )
    content[start : start + len(noise)] = noise
    index.write_bytes(content)
    # When: the same tasks and more come
    list(posting_states(path))
    with Database(path, owe=True) as database:
        for name in names:
            database.append(record(name))
        tasks = line(database)
    # Then: each is there once, and owed
    assert task_ids(path) == names
    assert sorted(tasks) == sorted(names)


@pytest.mark.parametrize("column", ["task_id", "at", "state", "turn", "file", "digest", "lease_id"])
@pytest.mark.parametrize("value", ["'text'", "x'ff'", "-5", "1e300", "NULL"])
def test_a_value_of_another_type_in_the_index_ends_nothing(
    path: Path, column: str, value: str
) -> None:
    store(path, "t1", "t2", "t3", owe=True)
    with sqlite3.connect(sidecar(path)) as db:
        db.execute(f"UPDATE records SET {column} = {value} WHERE seq = 2")
    db.close()
    list(posting_states(path))
    with Database(path, owe=True) as database:
        first_owed(database)
        database.owed(10)
        for name in ("t1", "t2", "t3", "t4"):
            database.known(name)
            database.owe_again(name, None)
            database.mark_failed(name)
        assert database.append(record("t4"))
    assert verify(path).documents >= 4
    assert verify(path).index_agrees


@pytest.mark.parametrize(
    "stamp",
    [
        "20261399T000000.000000Z",
        "20260230T120000.000000Z",
        "20260101T256199.000000Z",
        "99991231T235959.999999Z",
        "00000000T000000.000000Z",
        "20260101T000000.0000000Z",
        "²0260101T000000.000000Z",
    ],
)
def test_a_neighbour_of_an_impossible_date_is_none_of_ours(path: Path, stamp: str) -> None:
    odd = path.with_name(f"results.{stamp}.json")
    odd.write_text("not ours")
    names = [f"t{n}" for n in range(10)]
    store(path, *names, rotation=Rotation(max_bytes=300))
    assert task_ids(path) == names
    assert verify(path).files > 2
    assert odd.read_text() == "not ours"


def test_a_folder_of_a_rotated_files_name_is_none_of_ours(path: Path) -> None:
    path.with_name("results.20260101T000000.000000Z.json").mkdir()
    store(path, "t1")
    assert task_ids(path) == ["t1"]


@pytest.mark.parametrize("digits", [19, 20, 40])
def test_document_ids_of_many_digits_are_counted_on(path: Path, digits: int) -> None:
    largest = 10**digits - 2
    path.write_text(json.dumps({"images": {str(largest): record("t1"), "5": record("t2")}}))
    for name in ("t3", "t4"):
        with Database(path) as database:
            assert not database.append(record("t1"))
            if name == "t3":
                assert database.append(record(name))
    assert [d.doc_id for d in TinyDB(path).table("images")] == [largest, 5, largest + 1]
    assert len(list(read_records(path))) == 3
    assert verify(path).index_agrees


def test_an_index_whose_very_names_are_damaged_is_made_again(path: Path) -> None:
    store(path, "t1", "t2", owe=True)
    content = sidecar(path).read_bytes()
    for place in range(content.index(b"CREATE TABLE") - 40, 4096, 29):
        sidecar(path).write_bytes(content[:place] + b"\x80" + content[place + 1 :])
        list(posting_states(path))
        with Database(path, owe=True) as database:
            assert line(database) == ["t1", "t2"]
