"""One writer a file, with several threads."""

import errno
import json
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tinydb import TinyDB

from tests.database.helpers import record, sidecar
from worker.database import (
    Database,
    Rotation,
)
from worker.errors import DatabaseUnusable, DiskRefuses


def test_of_one_task_from_two_threads_one_record_is_stored(path: Path) -> None:
    with Database(path) as database, ThreadPoolExecutor(8) as threads:
        stored = list(threads.map(lambda _: database.append(record("t1")), range(8)))
    assert stored.count(True) == 1
    assert len(TinyDB(path).table("images")) == 1


def test_a_disk_that_refuses_is_said_to_each_of_them(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int) -> None:
        time.sleep(0.05)
        raise OSError(errno.ENOSPC, "No space left on device")

    def append(name: str) -> str:
        try:
            return str(database.append(record(name)))
        except DiskRefuses as error:
            return str(error)

    names = [f"t{number}" for number in range(8)]
    with Database(path) as database, ThreadPoolExecutor(8) as threads:
        monkeypatch.setattr(os, "fsync", refuse)
        assert all("No space left" in said for said in threads.map(append, names))
        monkeypatch.undo()
        assert list(threads.map(append, names)) == ["True"] * 8
    assert len(TinyDB(path).table("images")) == 8


def test_a_task_is_not_called_recorded_because_another_thread_tried_to(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[int] = []
    sync = os.fsync

    def refuse_once(file: int) -> None:
        time.sleep(0.05)
        if len(refused) < 2:  # the append, and putting the file back
            refused.append(file)
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    def append(_: int) -> str:
        try:
            return str(database.append(record("t1")))
        except DiskRefuses:
            return "refused"

    with Database(path) as database, ThreadPoolExecutor(4) as threads:
        monkeypatch.setattr(os, "fsync", refuse_once)
        said = sorted(threads.map(append, range(4)))
    assert said == ["False", "False", "True", "refused"]
    assert len(TinyDB(path).table("images")) == 1


def test_a_file_that_is_due_for_rotation_takes_no_more_than_fits(path: Path) -> None:
    size = len(json.dumps(record("t00")))
    rotation = Rotation(max_bytes=5 * size)
    names = [f"t{number:02}" for number in range(30)]
    with Database(path, rotation=rotation) as database, ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda name: database.append(record(name)), names))
    files = [path, *path.parent.glob("results.*.json")]
    assert all(file.stat().st_size <= 5 * size for file in files)
    assert sum(len(TinyDB(file).table("images")) for file in files) == 30


def test_a_second_one_is_refused_and_told_who_has_the_file(path: Path) -> None:
    with Database(path), pytest.raises(DatabaseUnusable) as caught:
        Database(path)
    assert str(path) in str(caught.value)
    assert f"process {os.getpid()}" in str(caught.value)
    Database(path).close()


def test_a_folder_that_is_missing_or_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in ("missing", "file"):
        with pytest.raises(DatabaseUnusable, match=folder):
            Database(tmp_path / folder / "results.json")
    with pytest.raises(DatabaseUnusable, match="directory"):
        Database(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="may write anywhere")
def test_a_read_only_folder_is_one_clear_error(path: Path) -> None:
    path.parent.chmod(0o500)
    with pytest.raises(DatabaseUnusable, match="denied"):
        Database(path)


def test_closing_twice_is_harmless_and_what_comes_after_harms_nothing(path: Path) -> None:
    database = Database(path)
    database.append(record("t1"))
    database.close()
    database.close()
    with pytest.raises(sqlite3.ProgrammingError):
        database.known("t1")
    assert sidecar(path).exists()
