"""A new file is begun when it is due, and nothing is forgotten over it."""

import os
from pathlib import Path

import pytest

from tests.database.helpers import first_owed, line, record, sidecar, stock, store, task_ids
from worker.database import (
    Database,
    Known,
    Rotation,
    parse_rotation,
    read_records,
    verify,
)
from worker.errors import DiskRefuses


@pytest.mark.parametrize(
    ("text", "rotation"),
    [
        ("never", Rotation()),
        ("monthly", Rotation(monthly=True)),
        ("100 MB", Rotation(max_bytes=100_000_000)),
        ("5kB", Rotation(max_bytes=5_000)),
        ("2 GB", Rotation(max_bytes=2_000_000_000)),
    ],
)
def test_the_rule_is_read(text: str, rotation: Rotation) -> None:
    assert parse_rotation(text) == rotation


@pytest.mark.parametrize("text", ["", "weekly", "0 MB", "100", "-1 MB", "1.5 GB", "5 TB "])
def test_a_wrong_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither never nor monthly"):
        parse_rotation(text)


@pytest.mark.parametrize("indexed", [True, False])
def test_a_full_file_is_put_aside_and_nothing_is_forgotten(path: Path, indexed: bool) -> None:
    # Given: more records than one file may hold
    names = [f"t{n}" for n in range(40)]
    store(path, *names, owe=True, rotation=Rotation(max_bytes=1000))
    family = sorted(path.parent.glob("results*.json"))
    assert len(family) > 3
    for file in family:
        assert file.stat().st_size <= 1000
        assert stock(file)
    # When: it is opened again
    if not indexed:
        sidecar(path).unlink()
    with Database(path, owe=True) as database:
        # Then: duplicates are known, posts are owed, all files are read in order
        assert not any(database.append(record(name)) for name in names)
        assert line(database) == names
    assert task_ids(path) == names
    assert [r["task_id"] for r in read_records(path, family=False)] == [
        r["task_id"] for r in stock(path)
    ]
    found = verify(path)
    assert (found.files, found.documents) == (len(family), 40)
    assert found.index_agrees


def test_a_new_month_begins_a_new_file(path: Path) -> None:
    rotation = Rotation(monthly=True)
    store(path, "t1", "t2", rotation=rotation)
    assert len(stock(path)) == 2
    os.utime(path, (1_700_000_000, 1_700_000_000))
    store(path, "t3", "t4", rotation=rotation)
    assert [d["task_id"] for d in stock(path)] == ["t3", "t4"]
    assert task_ids(path) == ["t1", "t2", "t3", "t4"]


def test_an_empty_file_is_never_put_aside(path: Path) -> None:
    store(path, "t1", rotation=Rotation(max_bytes=1))
    assert task_ids(path) == ["t1"]
    assert len(list(path.parent.glob("results*.json"))) == 1


@pytest.mark.parametrize("crash", ["linked", "renamed", "replaced"])
def test_a_crash_at_any_point_of_putting_aside_loses_nothing(path: Path, crash: str) -> None:
    # Given: two records, one posted; then a rotation that ended half-way
    store(path, "t1", "t2", owe=True)
    with Database(path, owe=True) as database:
        database.settle("t1")
    older = path.with_name("results.20990101T000000.000000Z.json")
    if crash == "linked":
        older.hardlink_to(path)
        assert task_ids(path) == ["t1", "t2"]
    else:
        path.rename(older)
    if crash == "replaced":
        path.write_bytes(b'{"images": {}}')
    # When: it is opened, and rotates once more though the clock is behind
    store(path, "t3", "t4", owe=True, rotation=Rotation(max_bytes=150))
    # Then: all is known, in order
    with Database(path, owe=True) as database:
        assert line(database) == ["t2", "t3", "t4"]
    assert task_ids(path) == ["t1", "t2", "t3", "t4"]


def test_a_rotation_that_fails_leaves_the_file_as_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with Database(path, rotation=Rotation(max_bytes=150)) as database:
        database.append(record("t1"))
        for step in ("replace", "hardlink_to"):
            with monkeypatch.context() as patch:
                patch.setattr(Path, step, refuse)
                if step == "replace":
                    with pytest.raises(DiskRefuses, match="No space left"):
                        database.append(record("t2"))
                    assert stock(path) == [record("t1")]
                    assert task_ids(path) == ["t1"]
                else:
                    assert database.append(record("t2"))
    assert [len(stock(file)) for file in sorted(path.parent.glob("results*.json"))] == [1, 1]
    assert task_ids(path) == ["t1", "t2"]


def test_the_tasks_of_a_file_that_was_moved_away_stay_done(path: Path) -> None:
    store(path, "t1", "t2", "t3", owe=True, rotation=Rotation(max_bytes=150))
    oldest = sorted(path.parent.glob("results.2*.json"))[0]
    with Database(path, owe=True) as database:
        oldest.rename(oldest.with_name("archive.json"))
        owed = first_owed(database)
        assert owed is not None
        assert owed.task_id == "t2"
    with Database(path, owe=True) as database:
        assert database.known("t1") == Known(digest=None, owed=False)
        assert not database.append(record("t1"))
        assert line(database) == ["t2", "t3"]
