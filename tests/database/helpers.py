"""What the tests of the database share: records, and views of a file by other eyes."""

import os
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from tinydb import TinyDB

from worker.database import Database, Owed, read_records

Record = dict[str, Any]

# Examples use files and SQLite; their number is bounded so that the suite stays quick.
few = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    # What ends, separates and nests documents must be harmless inside of one.
    | st.text() | st.sampled_from(['}, "2": {"', "}}", "\\", '"', "\ud800", "é"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5) | st.sampled_from(["2", "task_id"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
json_objects = st.dictionaries(st.text(max_size=8), json_values, max_size=4)


def a_path(fresh: Path) -> Path:
    return Path(os.fspath(fresh), str(len(list(fresh.iterdir()))), "results.json")


def new_path(fresh: Path) -> Path:
    found = a_path(fresh)
    found.parent.mkdir()
    return found


def record(task_id: str | None, **more: Any) -> Record:
    made = {"file_name": "angry.jpeg", "threshold": 0.2, "faces": [], "worker": "w", **more}
    return made if task_id is None else {**made, "task_id": task_id}


def stock(path: Path) -> list[Record]:
    """What stock TinyDB finds in the file."""
    with TinyDB(path) as db:
        return [dict(document) for document in db.table("images")]


def insert_stock(path: Path, *documents: Record, table: str = "images", **kwargs: Any) -> None:
    with TinyDB(path, **kwargs) as db:
        for document in documents:
            db.table(table).insert(document)


def store(path: Path, *task_ids: str | None, owe: bool = False, **more: Any) -> None:
    with Database(path, owe=owe, **more) as database:
        for task_id in task_ids:
            assert database.append(record(task_id))


def sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".index")


def task_ids(path: Path) -> list[str]:
    return [found["task_id"] for found in read_records(path)]


def line(database: Database) -> list[str]:
    """The tasks that are owed, in the order in which they are posted."""
    return [owed.task_id for owed in database.owed(1_000_000)]


def first_owed(database: Database) -> Owed | None:
    """What is posted next."""
    return next(iter(database.owed(1)), None)
