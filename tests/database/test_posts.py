"""Results that are owed to the server: oldest first, across restarts, none lost."""

import threading
from pathlib import Path

import pytest

from tests.database.helpers import first_owed, line, record, sidecar, store
from worker.database import (
    Database,
    Owed,
    posting_states,
    verify,
)


def test_they_are_owed_oldest_first_with_the_record_and_its_lease(path: Path) -> None:
    with Database(path, owe=True) as database:
        database.append(record("t1"), lease_id="l1")
        database.append(record("t2"))
        assert first_owed(database) == Owed("t1", "l1", record("t1"))
        database.settle("t1")
        assert first_owed(database) == Owed("t2", None, record("t2"))
        database.settle("t2", "422: no")
        assert first_owed(database) is None
        assert database.owed_count() == 0
        assert first_owed(database) is None
        assert list(posting_states(path)) == [
            ("t1", "posted", None),
            ("t2", "refused", "422: no"),
        ]


def test_they_survive_a_restart(path: Path) -> None:
    with Database(path, owe=True) as database:
        for name in ("t1", "t2", "t3", "t4"):
            database.append(record(name), lease_id=f"l-{name}")
        database.settle("t1")
        database.settle("t2", "no")
        database.mark_failed("t3")
    with Database(path, owe=True) as database:
        assert first_owed(database) == Owed("t3", "l-t3", record("t3"))
        assert line(database) == ["t3", "t4"]
        for _ in range(4):
            database.mark_failed("t3")
        assert line(database) == ["t4", "t3"]


def test_after_each_fifth_failure_one_goes_to_the_back_of_the_line(path: Path) -> None:
    store(path, "bad", "t1", "t2", owe=True)

    def fail_first() -> str:
        owed = first_owed(database)
        assert owed is not None
        database.mark_failed(owed.task_id)
        return owed.task_id

    with Database(path, owe=True) as database:
        assert [fail_first() for _ in range(6)] == ["bad"] * 5 + ["t1"]
        database.settle("t1")
        database.append(record("t3"))
        database.settle("t2")
        assert [fail_first() for _ in range(6)] == ["bad"] * 5 + ["t3"]


@pytest.mark.parametrize("state", ["owed", "posted", "refused", "kept"])
def test_a_task_that_is_offered_again_is_owed_again_with_the_latest_lease(
    path: Path, state: str
) -> None:
    store(path, "t1", "t2", owe=state != "kept")
    with Database(path, owe=True) as database:
        if state == "posted":
            database.settle("t1")
        elif state == "refused":
            database.settle("t1", "no")
        database.mark_failed("t1")
        database.owe_again("t1", "new")
        database.settle("t2")
        assert first_owed(database) == Owed("t1", "new", record("t1"))
        # Only while it was owed all along does its first failure still count.
        database.append(record("t3"))
        for _ in range(4):
            database.mark_failed("t1")
        assert line(database) == (["t3", "t1"] if state == "owed" else ["t1", "t3"])


def test_an_offer_again_does_not_lose_ones_place_in_the_line(path: Path) -> None:
    store(path, "t1", "t2", owe=True)
    with Database(path, owe=True) as database:
        database.owe_again("t1", "new")
        owed = first_owed(database)
        assert owed is not None
        assert owed.task_id == "t1"


def test_nothing_is_owed_while_posting_is_off(path: Path) -> None:
    store(path, "old", owe=True)
    with Database(path) as database:
        database.append(record("t1"))
        database.owe_again("t1", None)
        assert first_owed(database) is None
    with Database(path, owe=True) as database:
        assert line(database) == ["old"]


@pytest.mark.parametrize("between", [False, True])
def test_a_record_whose_index_entry_was_lost_is_owed_after_the_next_open(
    path: Path, between: bool
) -> None:
    # Given: a crash after the record was made durable, before the index had it
    store(path, "t1", owe=True)
    with Database(path, owe=True) as database:
        database.settle("t1")
    early = sidecar(path).read_bytes()
    store(path, "t2", owe=True)
    sidecar(path).write_bytes(early)
    # When: it is opened, perhaps first by a command that posts nothing
    if between:
        assert verify(path).documents == 2
    # Then: just the lost one is owed
    with Database(path, owe=True) as database:
        assert line(database) == ["t2"]


def test_all_records_are_owed_if_the_whole_index_is_lost(path: Path) -> None:
    store(path, "t1", None, "t2", owe=True)
    sidecar(path).unlink()
    with Database(path, owe=True) as database:
        assert line(database) == ["t1", "t2"]


def test_a_poster_thread_works_beside_the_main_thread(path: Path) -> None:
    names = [f"t{n}" for n in range(200)]
    posted: list[str] = []
    with Database(path, owe=True) as database:

        def post() -> None:
            while len(posted) < len(names):
                if owed := first_owed(database):
                    posted.append(owed.record["task_id"])
                    database.settle(owed.task_id)

        poster = threading.Thread(target=post)
        poster.start()
        for name in names:
            assert not database.known(name)
            assert database.append(record(name))
        poster.join(20)
    assert posted == names
