"""`results --verify`: each document of each file beside the index."""

import sqlite3
from itertools import islice
from pathlib import Path

import pytest

from tests.database.helpers import insert_stock, record, sidecar, store
from worker.database import (
    Database,
    posting_states,
    verify,
)
from worker.errors import DatabaseUnusable


def test_a_sound_file_is_said_to_be_sound(path: Path) -> None:
    store(path, "t1", None, "t2", owe=True)
    found = verify(path)
    assert found.sound
    assert found.index_agrees
    assert found.lines() == [
        "documents: 3 in 1 file",
        "torn tail: no",
        "tasks recorded before: 0",
        "tasks whose record is missing: 0",
        "index: agrees",
        "results still to post: 2",
    ]


@pytest.mark.parametrize(
    ("cut", "said"),
    [(2, "no, but the last line had no end: mended"), (5, "yes; ")],
)
def test_an_end_that_is_cut_is_mended_and_said(path: Path, cut: int, said: str) -> None:
    store(path, "t1", "t2")
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert verify(path).lines()[1].startswith(f"torn tail: {said}")
    assert "torn tail: no" in verify(path).lines()


def test_a_task_that_was_recorded_twice_is_found(path: Path) -> None:
    insert_stock(path, record("t1"), record("t2"), record("t1"))
    found = verify(path)
    assert found.duplicates == 1
    assert not found.sound


def test_an_index_that_disagrees_is_made_again(path: Path) -> None:
    store(path, "t1", "t2", "t3")
    with sqlite3.connect(sidecar(path)) as db:
        db.execute("DELETE FROM records WHERE seq = 2")
    db.close()
    assert not verify(path).index_agrees
    assert verify(path).index_agrees
    with Database(path) as database:
        assert database.known("t2")


def test_a_missing_file_is_not_made(path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match="no such file"):
        verify(path)
    assert not path.exists()


def test_the_states_of_posts_are_read_beside_a_worker_and_without_a_sidecar(path: Path) -> None:
    assert list(posting_states(path)) == []
    with Database(path, owe=True) as database:
        database.append(record("t1"))
        assert list(posting_states(path)) == [("t1", "owed", None)]
    assert list(islice(posting_states(path), 1)) == [("t1", "owed", None)]
    sidecar(path).write_bytes(b"garbage" * 1000)
    assert list(posting_states(path)) == []
