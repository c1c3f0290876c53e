"""A task that is recorded once is not recorded again, whatever happens to the index."""

import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.database.helpers import (
    few,
    first_owed,
    line,
    new_path,
    record,
    sidecar,
    stock,
    store,
    task_ids,
)
from worker.database import (
    Database,
    verify,
)


@pytest.mark.parametrize("loss", ["nothing", "restart", "index", "damaged", "version", "old"])
def test_a_recorded_task_is_not_stored_twice(path: Path, loss: str) -> None:
    store(path, "t0")
    early = sidecar(path).read_bytes()
    store(path, "t1", "t2")
    content = path.read_bytes()
    if loss == "index":
        sidecar(path).unlink()
    elif loss == "damaged":
        sidecar(path).write_bytes(b"no database at all, but long enough to look at" * 100)
    elif loss == "version":
        with sqlite3.connect(sidecar(path)) as db:
            db.execute("ALTER TABLE records ADD COLUMN other")
    elif loss == "old":
        sidecar(path).write_bytes(early)
    with Database(path) as database:
        assert database.known("t1")
        assert not database.append(record("t1", other=1))
        assert not database.known("t3")
    assert path.read_bytes() == content


def test_records_without_a_task_are_all_stored_and_none_is_owed(path: Path) -> None:
    store(path, None, None, owe=True)
    with Database(path, owe=True) as database:
        assert database.append(record(None))
        assert database.append({"task_id": 5})
        assert database.append({"task_id": None})
        assert first_owed(database) is None
    assert len(stock(path)) == 5


@few
@given(ids=st.lists(st.text() | st.sampled_from(["\ud800", "a\0b", "a\0c", "é"]), unique=True))
def test_any_text_is_a_task_id(fresh: Path, ids: list[str]) -> None:
    path = new_path(fresh)
    for _ in range(2):
        with Database(path, owe=True) as database:
            for task_id in ids:
                database.append(record(task_id), lease_id=task_id)
            assert line(database) == ids
            assert all(map(database.known, ids))
        sidecar(path).unlink()
    assert task_ids(path) == ids


@settings(few, max_examples=12)
@given(start=st.integers(0, 20), pages=st.integers(1, 20), content=st.sampled_from([0, 7, 255]))
def test_no_lost_page_of_the_index_doubles_a_record(
    fresh: Path, start: int, pages: int, content: int
) -> None:
    path = new_path(fresh)
    names = [f"t{n}-{'x' * 900}" for n in range(24)]
    store(path, *names[:20], owe=True)
    index = bytearray(sidecar(path).read_bytes())
    start = 4096 * start % len(index)
    lost = index[start : start + 4096 * pages]
    index[start : start + 4096 * pages] = bytes([content]) * len(lost)
    sidecar(path).write_bytes(index)
    with Database(path, owe=True) as database:
        for name in names:
            database.append(record(name))
        tasks = line(database)
    assert task_ids(path) == names
    assert sorted(tasks) == sorted(names)


def test_an_index_that_is_damaged_under_way_is_made_again(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Given: an index of which SQLite has just a few pages in memory
    names = [f"t{n}-{'x' * 300}" for n in range(2_000)]
    path.write_text(json.dumps({"images": {n: record(name) for n, name in enumerate(names, 1)}}))
    with Database(path, owe=True) as database:
        with sidecar(path).open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (sidecar(path).stat().st_size - 4096))
        assert database.known(names[7])
        assert database.append(record("new"))
        assert line(database) == [*names, "new"]
    assert "made again" in caplog.text
    assert verify(path).index_agrees
