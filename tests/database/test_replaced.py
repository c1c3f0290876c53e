"""The file moved, deleted, replaced or cut by others while a worker has it open."""

import json
import logging
import os
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tinydb import TinyDB

from tests.database.helpers import first_owed, line, record, sidecar, stock, task_ids
from worker.database import Database, Known, verify
from worker.errors import DatabaseUnusable, DiskRefuses


def delete(path: Path) -> None:
    path.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("moved.json"))


def empty(path: Path) -> None:
    os.truncate(path, 0)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 3)


def replace(path: Path, content: bytes) -> None:
    """As an editor or `sed -i` does it."""
    other = path.with_name("other")
    other.write_bytes(content)
    other.replace(path)


@pytest.mark.parametrize("happens", [delete, move, empty, cut])
def test_a_new_file_is_begun_and_what_was_recorded_stays_done(
    path: Path, happens: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    with Database(path, owe=True) as database:
        # Given: three tasks, one of them posted
        for name in ("t1", "t2", "t3"):
            database.append(record(name), digest="ab")
        database.settle("t2")
        # When: the file goes away
        happens(path)
        with caplog.at_level(logging.WARNING):
            assert database.append(record("t4"))
        # Then: what comes is stored where everybody finds it, and nothing is stored twice
        assert stock(path) == [record("t4")] == [*map(record, task_ids(path))]
        assert database.known("t1") == Known(digest="ab", owed=False)
        assert not database.append(record("t1"))
        assert database.owe_again("t2", "lease") is None
        assert line(database) == ["t4"]
    # ... and one line says what that costs
    (said,) = [r.getMessage() for r in caplog.records if "in no file" in r.getMessage()]
    assert "the records of 3 tasks" in said
    assert "2 results that were still to be posted are dropped" in said
    # ... also after a restart
    with Database(path, owe=True) as database:
        assert not database.append(record("t3"))
    assert verify(path).missing == 3


def test_it_is_noticed_by_a_post_as_well(path: Path) -> None:
    with Database(path, owe=True) as database:
        database.append(record("t1"))
        path.unlink()
        assert first_owed(database) is None
        assert database.owed_count() == 0
        assert database.known("t1") == Known(digest=None, owed=False)
        assert database.append(record("t2"))
    assert task_ids(path) == ["t2"]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_file_in_its_place_is_adopted(path: Path, indent: int | None) -> None:
    with Database(path, owe=True) as database:
        for name in ("t1", "t2"):
            database.append(record(name), lease_id=f"l-{name}")
        database.settle("t1")
        # When: an editor changes a word, and somebody adds a record
        tables = json.loads(path.read_bytes().replace(b"angry.jpeg", b"a.jpeg"))
        tables["images"]["7"] = record("t7")
        replace(path, json.dumps(tables, indent=indent).encode())
        # Then: what it holds counts, and the next record stands behind it
        assert database.append(record("t8"))
        assert not database.append(record("t7"))
        found = database.find("t2")
        assert found is not None
        assert found["file_name"] == "a.jpeg"
        assert line(database) == ["t2", "t7", "t8"]
        owed = first_owed(database)
        assert owed is not None
        assert owed.lease_id == "l-t2"
    with TinyDB(path) as db:
        assert [d.doc_id for d in db.table("images")] == [1, 2, 7, 8]
    assert verify(path).sound


def test_a_file_that_is_no_database_is_left_alone_and_waited_for(path: Path) -> None:
    with Database(path) as database:
        database.append(record("t1"))
        kept = path.read_bytes()
        replace(path, b"<html>")
        for _ in range(2):
            with pytest.raises(DiskRefuses, match="damaged"):
                database.append(record("t2"))
        assert path.read_bytes() == b"<html>"
        # When: a person puts it right
        replace(path, kept)
        assert database.append(record("t2"))
    assert task_ids(path) == ["t1", "t2"]


def test_a_folder_that_is_gone_is_waited_for(path: Path) -> None:
    folder = path.parent / "data"
    folder.mkdir()
    with Database(folder / "results.json") as database:
        database.append(record("t1"))
        shutil.move(folder, path.parent / "away")
        with pytest.raises(DiskRefuses, match="No such file"):
            database.append(record("t2"))
        shutil.move(path.parent / "away", folder)
        assert database.append(record("t2"))
    assert task_ids(folder / "results.json") == ["t1", "t2"]


def test_a_file_that_was_deleted_between_two_runs_is_begun_anew(path: Path) -> None:
    with Database(path, owe=True) as database:
        database.append(record("t1"))
    path.unlink()
    with Database(path, owe=True) as database:
        assert not database.append(record("t1"))
        assert database.append(record("t2"))
        assert line(database) == ["t2"]
    # ... and really anew without the index
    path.unlink()
    sidecar(path).unlink()
    with Database(path) as database:
        assert database.append(record("t1"))


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, bind])
def test_what_is_no_ordinary_file_stays_as_it_is(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """Also a device such as /dev/null; and when it takes the file's place."""
    path = tmp_path / "results.json"
    with Database(path) as database:
        path.unlink()
        make(path)
        kind = stat.S_IFMT(path.stat().st_mode)
        with pytest.raises(DiskRefuses, match="no ordinary file"):
            database.append(record("t1"))
    with pytest.raises(DatabaseUnusable, match="no ordinary file"):
        Database(path)
    assert stat.S_IFMT(path.stat().st_mode) == kind
