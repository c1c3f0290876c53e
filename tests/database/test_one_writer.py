"""One writer a file, with several threads."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tinydb import TinyDB

from tests.database.helpers import line, record, sidecar, task_ids
from worker.database import (
    Database,
    Rotation,
    verify,
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
    with pytest.raises(DiskRefuses, match="closed"):
        database.known("t1")
    before = path.read_bytes()
    for late in (record("t2"), {"file_name": "of no task", "faces": []}):
        with pytest.raises(ValueError, match="closed"):
            database.append(late)
    assert path.read_bytes() == before
    Database(path).close()  # its lock was not taken again
    assert sidecar(path).exists()


SECOND = """
import sys
from pathlib import Path
from worker.database import Database
from worker.errors import DatabaseUnusable
try:
    Database(Path(sys.argv[1]))
except DatabaseUnusable as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def second_writer(path: Path) -> str:
    """What another process is told when it opens ``path``; empty if it may."""
    command = [sys.executable, "-c", SECOND, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stderr


def hard_link(path: Path) -> Path:
    other = path.with_name("other.json")
    other.hardlink_to(path)
    return other


def without_lock_file(path: Path) -> Path:
    path.with_name("results.json.lock").unlink()
    return path


@pytest.mark.skipif(os.name != "posix", reason="Windows has only the lock file")
@pytest.mark.parametrize("other_way", [hard_link, without_lock_file])
@pytest.mark.parametrize("after", ["opening", "rotation", "replacement"])
def test_a_second_process_is_refused_by_whatever_path_it_comes(
    path: Path, other_way: Callable[[Path], Path], after: str
) -> None:
    rotation = Rotation(max_bytes=150 if after == "rotation" else None)
    with Database(path, rotation=rotation, owe=True) as database:
        # Given: a worker that writes
        database.append(record("t1"))
        if after == "rotation":
            database.append(record("t2"))
        elif after == "replacement":
            shutil.copy(path, path.with_name("copy"))
            path.with_name("copy").replace(path)
            database.append(record("t2"))
        other = other_way(path)
        before = {file.name: file.read_bytes() for file in path.parent.glob("results*.json")}
        # When: another process comes
        said = second_writer(other)
        # Then: it is refused, and has changed no byte, nor what the worker knows
        assert f"DatabaseUnusable: {other} is in use by another worker" in said
        for name, content in before.items():
            assert path.with_name(name).read_bytes() == content
        assert database.append(record("t3"))
        assert line(database)[-1] == "t3"
    assert second_writer(path) == ""
    assert verify(path).sound


def test_a_reader_that_closes_the_file_does_not_give_the_lock_away(path: Path) -> None:
    with Database(path) as database:
        database.append(record("t1"))
        assert task_ids(path) == ["t1"]
        assert database.find("t1") == record("t1")
        assert "in use" in second_writer(without_lock_file(path))
