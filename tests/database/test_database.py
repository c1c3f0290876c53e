"""The database: a TinyDB file after every append, one record a task, posts that are never lost."""

import errno
import json
import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tinydb import TinyDB
from tinydb.table import Document

from worker.database.database import (
    NEVER,
    Database,
    Owed,
    Rotation,
    parse_rotation,
    posting_states,
    read_records,
    verify,
)
from worker.errors import DatabaseUnusable, DiskRefuses, RetryLater

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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.json"


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for examples of which each makes its own below it."""
    folder = tmp_path_factory.mktemp("examples")
    yield folder
    shutil.rmtree(folder)


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
    """The tasks that are owed, by age."""
    tasks, after = [], 0
    while owed := database.next_owed(after=after):
        tasks.append(owed.task_id)
        after = owed.sequence
    return tasks


class TestTheFile:
    def test_it_is_made_at_the_first_open_so_that_a_wrong_folder_shows_at_once(
        self, path: Path
    ) -> None:
        Database(path).close()
        assert path.read_bytes() == b'{"images": {}}'
        assert stock(path) == []

    @few
    @given(documents=st.lists(json_objects, max_size=5))
    def test_it_is_byte_for_byte_what_tinydb_writes_after_every_append(
        self, fresh: Path, documents: list[Record]
    ) -> None:
        ours = new_path(fresh)
        stocks = ours.with_name("stock.json")
        with Database(ours) as database:
            for number, document in enumerate(documents, 1):
                document.pop("task_id", None)
                assert database.append(document)
                insert_stock(stocks, document)
                assert ours.read_bytes() == stocks.read_bytes()
                assert stock(ours) == documents[:number]

    @few
    @given(ids=st.lists(st.integers(1, 99), unique=True, max_size=6), document=json_objects)
    def test_document_ids_go_on_as_tinydb_counts_them(
        self, fresh: Path, ids: list[int], document: Record
    ) -> None:
        ours = new_path(fresh)
        insert_stock(ours, *(Document({"a": number}, number) for number in ids))
        theirs = ours.with_name("stock.json")
        shutil.copy(ours, theirs)
        document.pop("task_id", None)
        with Database(ours) as database:
            database.append(document)
        insert_stock(theirs, document)
        assert ours.read_bytes() == theirs.read_bytes()

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), {1, 2}, b"bytes"])
    def test_what_is_no_json_is_refused_and_the_file_stays_as_it_is(
        self, path: Path, bad: Any
    ) -> None:
        with Database(path) as database:
            database.append(record("t1"))
            before = path.read_bytes()
            with pytest.raises((ValueError, TypeError)):
                database.append(record("t2", value=bad))
            assert path.read_bytes() == before
            assert database.append(record("t2"))

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "{}",
            " {\n} ",
            '{"images": {}}',
            '{"_default": {"1": {"x": 1}}}',
            '{"_default": {"1": {"x": 1}}, "images": {}}',
            '{"images": {}, "notes": {}}',
            '{"images": {"1": {"task_id": "a"}}, "notes": {"7": {"task_id": "not an image"}}}',
            '{"no\\u00e9 \\"tes": {"1": {}}, "images": {"4": {"task_id": "a", "x": {"y": {}}}}}',
            '{"images":{"1":{"task_id":"a"},"2":{"task_id":"b"}}}',
            '{"images": {"1": {"task_id": "é"}}, "tablé": {"1": {"x": "ü"}}}',
            json.dumps({"images": {"1": {"task_id": "a"}, "9": {}}, "z": {}}, indent=4),
            '{"images": {"1": {"task_id": "a"}}}\n',
        ],
    )
    def test_any_form_that_tinydb_takes_is_taken_and_all_its_tables_are_kept(
        self, path: Path, content: str
    ) -> None:
        path.write_text(content, encoding="utf-8")
        path.chmod(0o640)
        before = json.loads(content or "{}")
        images = list(before.pop("images", {}).values())
        known = [image["task_id"] for image in images if "task_id" in image]
        with Database(path) as database:
            assert all(map(database.knows, known))
            assert not database.knows("not an image")
            assert database.append(record("new"))
        after = json.loads(path.read_bytes())
        assert list(after.pop("images").values()) == [*images, record("new")]
        assert after == before
        assert stock(path) == [*images, record("new")]
        assert path.stat().st_mode & 0o777 == 0o640

    @pytest.mark.parametrize(
        "content",
        [
            "hello",
            "[]",
            "5",
            '{"name": "package", "version": "1"}',
            '{"images": 5}',
            '{"images": ["1"]}',
            '{"images": {"1": "a.jpg"}}',
            '{"images": {"a": {"x": 1}}}',
            '{"images": {"1": {}} "2": {}}',
            '{"other": {"1": {"x": ',
            '{\n "images": {"1": {}}\n} and more',
            "\x00\x00\x00\x00",
        ],
    )
    def test_a_file_of_another_program_is_refused_and_left_alone(
        self, path: Path, content: str
    ) -> None:
        path.write_text(content)
        with pytest.raises(DatabaseUnusable, match="damaged") as caught:
            Database(path)
        assert str(path) in str(caught.value)
        assert caught.value.exit_code == 5
        assert path.read_text() == content

    @pytest.mark.parametrize(("documents", "hole"), [(6, 40), (2000, 150)])
    def test_a_file_that_is_damaged_in_the_middle_is_refused_and_left_alone(
        self, path: Path, documents: int, hole: int
    ) -> None:
        whole = json.dumps({"images": {n: record(f"t{n}") for n in range(1, documents)}}).encode()
        place = whole.index(b'"faces"', len(whole) // 3)
        path.write_bytes(whole[:place] + whole[place + hole :])
        damaged = path.read_bytes()
        with pytest.raises(DatabaseUnusable, match="damaged"):
            Database(path)
        with pytest.raises(DatabaseUnusable, match="damaged"):
            list(read_records(path))
        assert path.read_bytes() == damaged

    def test_a_single_byte_that_changed_in_a_large_file_is_found_by_verification(
        self, path: Path
    ) -> None:
        path.write_text(json.dumps({"images": {n: record(f"t{n}") for n in range(1, 2000)}}))
        with path.open("r+b") as file:
            file.seek(100_000)
            file.write(b"\0")
        with pytest.raises(DatabaseUnusable, match="damaged"):
            verify(path)

    def test_a_link_is_followed(self, path: Path, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        path.symlink_to(tmp_path / "disk" / "data.json")
        store(path, "t1")
        assert path.is_symlink()
        assert stock(tmp_path / "disk" / "data.json") == [record("t1")]


class TestTornTails:
    @pytest.mark.parametrize("indexed", [True, False])
    @pytest.mark.parametrize("earlier", [0, 2])
    def test_each_state_that_one_append_can_leave_is_mended_to_before_or_after(
        self, tmp_path: Path, indexed: bool, earlier: int
    ) -> None:
        # Given: the file before and after one append
        source = tmp_path / "source" / "results.json"
        source.parent.mkdir()
        store(source, *(f"t{n}" for n in range(earlier)), owe=True)
        before = source.read_bytes()
        kept = sidecar(source).read_bytes()
        store(source, "new", owe=True)
        after = source.read_bytes()
        written = after[len(before) - 2 :]
        zeros = bytes(20)
        states = [
            *(before[:-2] + written[:n] + before[len(before) - 2 + n :] for n in range(2)),
            *(before[:-2] + written[:n] for n in range(len(written))),
            *(before[:-2] + written[:n] + zeros for n in range(2, len(written), 7)),
            before + zeros,
            before + after[len(before) :],
        ]
        for number, state in enumerate(states):
            path = tmp_path / str(number) / "results.json"
            path.parent.mkdir()
            path.write_bytes(state)
            if indexed:
                sidecar(path).write_bytes(kept)
            # When: it is opened
            with Database(path, owe=True) as database:
                # Then: it is as before or after the append, and goes on
                assert path.read_bytes() in (before, after)
                stored = path.read_bytes() == after
                assert database.knows("new") == stored
                assert database.owed_count() == earlier + stored
                assert database.append(record("new")) != stored
                assert path.read_bytes() == after

    @few
    @given(size=st.integers(0, 300_000), cut=st.floats(0, 1, exclude_max=True))
    def test_a_large_record_that_is_cut_off_anywhere_goes_to_the_torn_file(
        self, fresh: Path, size: int, cut: float
    ) -> None:
        path = new_path(fresh)
        store(path, "t1")
        start = path.stat().st_size - 2
        with Database(path) as database:
            database.append(record("t2", text="x" * size))
        content = path.read_bytes()
        end = start + int(cut * (len(content) - 3 - start))
        path.write_bytes(content[:end])
        Database(path).close()
        assert stock(path) == [record("t1")]
        torn = path.with_name("results.json.torn")
        assert torn.read_bytes()[:-1] == content[start:end] if end > start else not torn.exists()

    def test_the_log_says_what_was_cut_off(
        self, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        store(path, "t1")
        path.write_bytes(path.read_bytes()[:-2] + b', "2": {"file')
        with caplog.at_level(logging.WARNING):
            assert verify(path).torn_bytes == 13
        assert "its 13 bytes were moved to" in caplog.text
        assert verify(path).torn_bytes is None

    def test_what_a_longer_file_left_behind_a_whole_one_is_cut_off(self, path: Path) -> None:
        store(path, "t1")
        content = path.read_bytes()
        path.write_bytes(content + b'ce": "w"}, "3": {"file_name": "x"}}}')
        Database(path).close()
        assert path.read_bytes() == content


class TestReading:
    def test_records_come_in_order_from_a_file_of_any_form(self, path: Path) -> None:
        tables = {"a": {"1": {"x": 0}}, "images": {"1": {"é": 1}, "3": {"x": 2}}, "b": {}}
        path.write_text(json.dumps(tables, indent=1, ensure_ascii=False), encoding="utf-8")
        assert list(read_records(path)) == [{"é": 1}, {"x": 2}]

    def test_a_torn_tail_is_passed_over(self, path: Path) -> None:
        store(path, "t1", "t2")
        path.write_bytes(path.read_bytes()[:-10])
        assert task_ids(path) == ["t1"]

    def test_an_empty_file_has_no_record(self, path: Path) -> None:
        path.touch()
        assert list(read_records(path)) == []

    @pytest.mark.parametrize("content", [None, "<html>", '{"a": 1}'])
    def test_what_cannot_be_read_is_one_clear_error(self, path: Path, content: str | None) -> None:
        if content is not None:
            path.write_text(content)
        with pytest.raises(DatabaseUnusable, match=r"results\.json"):
            list(read_records(path))

    def test_a_reader_beside_a_writer_sees_whole_records_and_no_error(self, path: Path) -> None:
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

    def test_a_large_file_is_read_and_indexed_alike_whatever_its_records_hold(
        self, path: Path
    ) -> None:
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
            assert all(map(database.knows, expected[::50]))
            assert not any(map(database.knows, ("b", "other3", "t11")))
            assert line(database) == expected
            assert database.append({"x": 1})
        assert [d.get("task_id") for d in read_records(path)][:-1] == [
            d.get("task_id") for d in documents.values()
        ]
        assert list(json.loads(path.read_bytes())["images"])[-1] == "102008"


class TestOneRecordATask:
    @pytest.mark.parametrize("loss", ["nothing", "restart", "index", "damaged", "version", "old"])
    def test_a_recorded_task_is_not_stored_twice(self, path: Path, loss: str) -> None:
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
                db.execute("PRAGMA user_version = 99")
        elif loss == "old":
            sidecar(path).write_bytes(early)
        with Database(path) as database:
            assert database.knows("t1")
            assert not database.append(record("t1", other=1))
            assert not database.knows("t3")
        assert path.read_bytes() == content

    def test_records_without_a_task_are_all_stored_and_none_is_owed(self, path: Path) -> None:
        store(path, None, None, owe=True)
        with Database(path, owe=True) as database:
            assert database.append(record(None))
            assert database.append({"task_id": 5})
            assert database.append({"task_id": None})
            assert database.next_owed() is None
        assert len(stock(path)) == 5

    @few
    @given(ids=st.lists(st.text() | st.sampled_from(["\ud800", "a\0b", "a\0c", "é"]), unique=True))
    def test_any_text_is_a_task_id(self, fresh: Path, ids: list[str]) -> None:
        path = new_path(fresh)
        for _ in range(2):
            with Database(path, owe=True) as database:
                for task_id in ids:
                    database.append(record(task_id), lease_id=task_id)
                assert line(database) == ids
                assert all(map(database.knows, ids))
            sidecar(path).unlink()
        assert task_ids(path) == ids

    @settings(few, max_examples=12)
    @given(start=st.integers(0, 20), pages=st.integers(1, 20), content=st.sampled_from([0, 7, 255]))
    def test_no_lost_page_of_the_index_doubles_a_record(
        self, fresh: Path, start: int, pages: int, content: int
    ) -> None:
        path = new_path(fresh)
        names = [f"t{n}-{'x' * 300}" for n in range(60)]
        store(path, *names[:50], owe=True)
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
        self, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        names = [f"t{n}" for n in range(500)]
        store(path, *names, owe=True)
        with Database(path, owe=True) as database:
            with sidecar(path).open("r+b") as file:
                file.seek(4096)
                file.write(b"\xff" * (sidecar(path).stat().st_size - 4096))
            assert database.knows("t7")
            assert database.append(record("new"))
            assert line(database) == [*names, "new"]
        assert "made again" in caplog.text
        assert verify(path).index_agrees

    def test_what_stock_tinydb_changes_meanwhile_counts(self, path: Path) -> None:
        # Given: three records, the second one posted
        store(path, "t1", "t2", "t3", owe=True)
        with Database(path, owe=True) as database:
            database.mark_posted("t2")
        # When: somebody removes the first one and adds a table
        with TinyDB(path) as db:
            db.table("images").remove(doc_ids=[1])
            db.table("notes").insert({"text": "removed one"})
        # Then: it is unknown, and what was posted stays posted
        with Database(path, owe=True) as database:
            assert not database.knows("t1")
            assert line(database) == ["t3"]
            assert database.append(record("t4"))
        with TinyDB(path) as db:
            assert [d["task_id"] for d in db.table("images")] == ["t2", "t3", "t4"]
            assert len(db.table("notes")) == 1


class TestPosts:
    def test_they_are_owed_oldest_first_with_the_record_and_its_lease(self, path: Path) -> None:
        with Database(path, owe=True) as database:
            database.append(record("t1"), lease_id="l1")
            database.append(record("t2"))
            assert database.next_owed() == Owed("t1", "l1", 0, record("t1"), 1)
            database.mark_posted("t1")
            assert database.next_owed() == Owed("t2", None, 0, record("t2"), 2)
            database.mark_refused("t2", "422: no")
            assert database.next_owed() is None
            assert database.owed_count() == 0
            assert database.refusals() == [("t2", "422: no")]
            assert list(posting_states(path)) == [
                ("t1", "posted", None),
                ("t2", "refused", "422: no"),
            ]

    def test_they_survive_a_restart(self, path: Path) -> None:
        with Database(path, owe=True) as database:
            for name in ("t1", "t2", "t3", "t4"):
                database.append(record(name), lease_id=f"l-{name}")
            database.mark_posted("t1")
            database.mark_refused("t2", "no")
            database.mark_failed("t3")
        with Database(path, owe=True) as database:
            assert database.next_owed() == Owed("t3", "l-t3", 1, record("t3"), 3)
            assert line(database) == ["t3", "t4"]
            assert database.refusals() == [("t2", "no")]

    def test_after_each_fifth_failure_one_goes_to_the_back_of_the_line(self, path: Path) -> None:
        store(path, "bad", "t1", "t2", owe=True)

        def fail_first() -> str:
            owed = database.next_owed()
            assert owed is not None
            database.mark_failed(owed.task_id)
            return owed.task_id

        with Database(path, owe=True) as database:
            assert [fail_first() for _ in range(6)] == ["bad"] * 5 + ["t1"]
            database.mark_posted("t1")
            database.append(record("t3"))
            database.mark_posted("t2")
            assert [fail_first() for _ in range(6)] == ["bad"] * 5 + ["t3"]

    def test_each_can_be_tried_just_once_though_some_go_to_the_back(self, path: Path) -> None:
        store(path, *(f"t{n}" for n in range(10)), owe=True)
        with Database(path, owe=True) as database:
            for _ in range(5):
                tried, after = [], 0
                while owed := database.next_owed(after=after):
                    after = owed.sequence
                    tried.append(owed.task_id)
                    database.mark_failed(owed.task_id)
                assert tried == [f"t{n}" for n in range(10)]

    @pytest.mark.parametrize("state", ["owed", "posted", "refused", "kept"])
    def test_a_task_that_is_offered_again_is_owed_again_with_the_latest_lease(
        self, path: Path, state: str
    ) -> None:
        store(path, "t1", "t2", owe=state != "kept")
        with Database(path, owe=True) as database:
            if state == "posted":
                database.mark_posted("t1")
            elif state == "refused":
                database.mark_refused("t1", "no")
            database.mark_failed("t1")
            database.owe_again("t1", "new")
            database.mark_posted("t2")
            failures = 1 if state == "owed" else 0
            assert database.next_owed() == Owed("t1", "new", failures, record("t1"), 1)
            assert database.refusals() == []

    def test_an_offer_again_does_not_lose_ones_place_in_the_line(self, path: Path) -> None:
        store(path, "t1", "t2", owe=True)
        with Database(path, owe=True) as database:
            database.owe_again("t1", "new")
            owed = database.next_owed()
            assert owed is not None
            assert owed.task_id == "t1"

    def test_nothing_is_owed_while_posting_is_off(self, path: Path) -> None:
        store(path, "old", owe=True)
        with Database(path) as database:
            database.append(record("t1"))
            database.owe_again("t1", None)
            assert database.next_owed() is None
        with Database(path, owe=True) as database:
            assert line(database) == ["old"]

    @pytest.mark.parametrize("between", [False, True])
    def test_a_record_whose_index_entry_was_lost_is_owed_after_the_next_open(
        self, path: Path, between: bool
    ) -> None:
        # Given: a crash after the record was made durable, before the index had it
        store(path, "t1", owe=True)
        with Database(path, owe=True) as database:
            database.mark_posted("t1")
        early = sidecar(path).read_bytes()
        store(path, "t2", owe=True)
        sidecar(path).write_bytes(early)
        # When: it is opened, perhaps first by a command that posts nothing
        if between:
            assert verify(path).documents == 2
        # Then: just the lost one is owed
        with Database(path, owe=True) as database:
            assert line(database) == ["t2"]

    def test_all_records_are_owed_where_the_whole_index_is_lost(self, path: Path) -> None:
        store(path, "t1", None, "t2", owe=True)
        sidecar(path).unlink()
        with Database(path, owe=True) as database:
            assert line(database) == ["t1", "t2"]

    def test_a_full_disk_under_the_index_neither_loses_nor_doubles_a_record(
        self, path: Path
    ) -> None:
        with Database(path, owe=True) as database:
            # Given: an index that cannot grow
            names = [f"task-{n:0100d}" for n in range(2000)]
            index = database._index._db
            (pages,) = index.execute("PRAGMA page_count").fetchone()
            index.execute(f"PRAGMA max_page_count = {pages}")
            # When: records come until it is full
            stored = []
            with pytest.raises(DiskRefuses, match="full") as caught:
                for name in names:
                    assert database.append(record(name), lease_id=f"l-{name}")
                    stored.append(name)
            assert isinstance(caught.value, RetryLater)
            # Then: all that were taken are in the file, and once there is room all goes on
            assert task_ids(path) == stored
            index.execute("PRAGMA max_page_count = 1000000")
            assert not database.append(record(stored[-1]))
            assert line(database) == stored
            assert database.append(record("new"))
        assert task_ids(path) == [*stored, "new"]

    def test_a_long_line_does_not_slow_the_posts_down(self, fresh: Path) -> None:
        def seconds_a_post(pending: int) -> float:
            path = new_path(fresh)
            path.write_text(json.dumps({"images": {n: record(f"t{n}") for n in range(1, pending)}}))
            with Database(path, owe=True) as database:
                names = [f"new{n}" for n in range(50)]
                start = time.perf_counter()
                for name in names:
                    database.append(record(name))
                    database.owe_again(name, "l")
                    database.mark_failed(name)
                    database.mark_posted(name)
                return time.perf_counter() - start

        assert seconds_a_post(40_000) < 5 * seconds_a_post(40)

    def test_a_poster_thread_works_beside_the_main_thread(self, path: Path) -> None:
        names = [f"t{n}" for n in range(200)]
        posted: list[str] = []
        with Database(path, owe=True) as database:

            def post() -> None:
                while len(posted) < len(names):
                    if owed := database.next_owed():
                        posted.append(owed.record["task_id"])
                        database.mark_posted(owed.task_id)

            poster = threading.Thread(target=post)
            poster.start()
            for name in names:
                assert not database.knows(name)
                assert database.append(record(name))
            poster.join(20)
        assert posted == names

    def test_an_analysis_that_ended_the_process_is_counted_until_it_has_a_record(
        self, path: Path
    ) -> None:
        for times in range(3):
            with Database(path) as database:
                assert database.begin("t1") == times
                assert database.begin(f"other{times}") == 0
        with Database(path) as database:
            database.append(record("t1"))
            assert database.begin("t1") == 0


class TestSeveralThreads:
    def test_what_they_append_at_once_is_made_durable_together(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Given a slow disk, when eight threads append, then some share an fsync, and all is as if
        they had come one by one."""
        syncs: list[int] = []

        def slow(file: int) -> None:
            syncs.append(file)
            time.sleep(0.05)

        names = [f"t{number}" for number in range(40)]
        with Database(path, owe=True) as database, ThreadPoolExecutor(8) as threads:
            monkeypatch.setattr(os, "fsync", slow)
            stored = list(threads.map(lambda name: database.append(record(name)), names))
            again = list(threads.map(lambda name: database.append(record(name)), names))
            assert all(map(database.knows, names))
            assert database.owed_count() == 40
        assert (stored, again) == ([True] * 40, [False] * 40)
        assert len(syncs) < 25
        documents = TinyDB(path).table("images").all()
        assert sorted(document["task_id"] for document in documents) == sorted(names)
        assert verify(path).sound

    def test_of_one_task_from_two_threads_one_record_is_stored(self, path: Path) -> None:
        with Database(path) as database, ThreadPoolExecutor(8) as threads:
            stored = list(threads.map(lambda _: database.append(record("t1")), range(8)))
        assert stored.count(True) == 1
        assert len(TinyDB(path).table("images")) == 1

    def test_a_disk_that_refuses_is_said_to_each_of_them(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
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
        self, path: Path, monkeypatch: pytest.MonkeyPatch
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

    def test_a_file_that_is_due_for_rotation_takes_no_more_than_fits(self, path: Path) -> None:
        size = len(json.dumps(record("t00")))
        rotation = Rotation(max_bytes=5 * size)
        names = [f"t{number:02}" for number in range(30)]
        with Database(path, rotation=rotation) as database, ThreadPoolExecutor(8) as threads:
            assert all(threads.map(lambda name: database.append(record(name)), names))
        files = [path, *path.parent.glob("results.*.json")]
        assert all(file.stat().st_size <= 5 * size for file in files)
        assert sum(len(TinyDB(file).table("images")) for file in files) == 30


class TestOneWriter:
    def test_a_second_one_is_refused_and_told_who_has_the_file(self, path: Path) -> None:
        with Database(path), pytest.raises(DatabaseUnusable) as caught:
            Database(path)
        assert str(path) in str(caught.value)
        assert f"process {os.getpid()}" in str(caught.value)
        Database(path).close()

    def test_a_folder_that_is_missing_or_a_file_is_one_clear_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for folder in ("missing", "file"):
            with pytest.raises(DatabaseUnusable, match=folder):
                Database(tmp_path / folder / "results.json")
        with pytest.raises(DatabaseUnusable, match="directory"):
            Database(tmp_path)

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="may write anywhere")
    def test_a_read_only_folder_is_one_clear_error(self, path: Path) -> None:
        path.parent.chmod(0o500)
        with pytest.raises(DatabaseUnusable, match="denied"):
            Database(path)

    def test_closing_twice_is_harmless_and_what_comes_after_harms_nothing(self, path: Path) -> None:
        database = Database(path)
        database.append(record("t1"))
        database.close()
        database.close()
        with pytest.raises(sqlite3.ProgrammingError):
            database.knows("t1")
        assert sidecar(path).exists()


class TestRotation:
    @pytest.mark.parametrize(
        ("text", "rotation"),
        [
            ("never", NEVER),
            ("monthly", Rotation(monthly=True)),
            ("100 MB", Rotation(max_bytes=100_000_000)),
            ("5kB", Rotation(max_bytes=5_000)),
            ("2 GB", Rotation(max_bytes=2_000_000_000)),
        ],
    )
    def test_the_rule_is_read(self, text: str, rotation: Rotation) -> None:
        assert parse_rotation(text) == rotation

    @pytest.mark.parametrize("text", ["", "weekly", "0 MB", "100", "-1 MB", "1.5 GB", "5 TB "])
    def test_a_wrong_rule_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="neither never nor monthly"):
            parse_rotation(text)

    @pytest.mark.parametrize("indexed", [True, False])
    def test_a_full_file_is_put_aside_and_nothing_is_forgotten(
        self, path: Path, indexed: bool
    ) -> None:
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

    def test_a_new_month_begins_a_new_file(self, path: Path) -> None:
        rotation = Rotation(monthly=True)
        store(path, "t1", "t2", rotation=rotation)
        assert len(stock(path)) == 2
        os.utime(path, (1_700_000_000, 1_700_000_000))
        store(path, "t3", "t4", rotation=rotation)
        assert [d["task_id"] for d in stock(path)] == ["t3", "t4"]
        assert task_ids(path) == ["t1", "t2", "t3", "t4"]

    def test_an_empty_file_is_never_put_aside(self, path: Path) -> None:
        store(path, "t1", rotation=Rotation(max_bytes=1))
        assert task_ids(path) == ["t1"]
        assert len(list(path.parent.glob("results*.json"))) == 1

    @pytest.mark.parametrize("crash", ["linked", "renamed", "replaced"])
    def test_a_crash_at_any_point_of_putting_aside_loses_nothing(
        self, path: Path, crash: str
    ) -> None:
        # Given: two records, one posted; then a rotation that ended half-way
        store(path, "t1", "t2", owe=True)
        with Database(path, owe=True) as database:
            database.mark_posted("t1")
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
        self, path: Path, monkeypatch: pytest.MonkeyPatch
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

    def test_a_file_that_was_moved_away_is_forgotten(self, path: Path) -> None:
        store(path, "t1", "t2", "t3", owe=True, rotation=Rotation(max_bytes=150))
        oldest = sorted(path.parent.glob("results.2*.json"))[0]
        with Database(path, owe=True) as database:
            oldest.rename(oldest.with_name("archive.json"))
            owed = database.next_owed()
            assert owed is not None
            assert owed.task_id == "t2"
        with Database(path, owe=True) as database:
            assert not database.knows("t1")
            assert line(database) == ["t2", "t3"]


class TestVerification:
    def test_a_sound_file_is_said_to_be_sound(self, path: Path) -> None:
        store(path, "t1", None, "t2", owe=True)
        found = verify(path)
        assert found.sound
        assert found.index_agrees
        assert found.lines() == [
            "documents: 3 in 1 file",
            "torn tail: no",
            "tasks recorded before: 0",
            "index: agrees",
            "results still to post: 2",
        ]

    def test_a_task_that_was_recorded_twice_is_found(self, path: Path) -> None:
        insert_stock(path, record("t1"), record("t2"), record("t1"))
        found = verify(path)
        assert found.duplicates == 1
        assert not found.sound

    def test_an_index_that_disagrees_is_made_again(self, path: Path) -> None:
        store(path, "t1", "t2", "t3")
        with sqlite3.connect(sidecar(path)) as db:
            db.execute("DELETE FROM records WHERE seq = 2")
        db.close()
        assert not verify(path).index_agrees
        assert verify(path).index_agrees
        with Database(path) as database:
            assert database.knows("t2")

    def test_a_missing_file_is_not_made(self, path: Path) -> None:
        with pytest.raises(DatabaseUnusable, match="no such file"):
            verify(path)
        assert not path.exists()

    def test_the_states_of_posts_are_read_beside_a_worker_and_without_a_sidecar(
        self, path: Path
    ) -> None:
        assert list(posting_states(path)) == []
        with Database(path, owe=True) as database:
            database.append(record("t1"))
            assert list(posting_states(path)) == [("t1", "owed", None)]
        assert list(islice(posting_states(path), 1)) == [("t1", "owed", None)]
        sidecar(path).write_bytes(b"garbage" * 1000)
        assert list(posting_states(path)) == []
