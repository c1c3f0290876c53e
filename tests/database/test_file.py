"""The file: after every append what TinyDB itself would have written, whatever it was before."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tinydb.table import Document

from tests.database.helpers import (
    Record,
    few,
    insert_stock,
    json_objects,
    new_path,
    record,
    stock,
    store,
)
from worker.database import (
    Database,
    read_records,
    verify,
)
from worker.errors import DatabaseUnusable


def test_it_is_made_at_the_first_open_so_that_a_wrong_folder_shows_at_once(path: Path) -> None:
    Database(path).close()
    assert path.read_bytes() == b'{"images": {}}'
    assert stock(path) == []


@few
@given(documents=st.lists(json_objects, max_size=5))
def test_it_is_byte_for_byte_what_tinydb_writes_after_every_append(
    fresh: Path, documents: list[Record]
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
    fresh: Path, ids: list[int], document: Record
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
def test_what_is_no_json_is_refused_and_the_file_stays_as_it_is(path: Path, bad: Any) -> None:
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
    path: Path, content: str
) -> None:
    path.write_text(content, encoding="utf-8")
    path.chmod(0o640)
    before = json.loads(content or "{}")
    images = list(before.pop("images", {}).values())
    known = [image["task_id"] for image in images if "task_id" in image]
    with Database(path) as database:
        assert all(map(database.known, known))
        assert not database.known("not an image")
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
def test_a_file_of_another_program_is_refused_and_left_alone(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(DatabaseUnusable, match="damaged") as caught:
        Database(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 5
    assert path.read_text() == content


@pytest.mark.parametrize(("documents", "hole"), [(6, 40), (2000, 150)])
def test_a_file_that_is_damaged_in_the_middle_is_refused_and_left_alone(
    path: Path, documents: int, hole: int
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


def test_a_single_byte_that_changed_in_a_large_file_is_found_by_verification(path: Path) -> None:
    path.write_text(json.dumps({"images": {n: record(f"t{n}") for n in range(1, 2000)}}))
    with path.open("r+b") as file:
        file.seek(100_000)
        file.write(b"\0")
    with pytest.raises(DatabaseUnusable, match="damaged"):
        verify(path)


def test_a_link_is_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    path.symlink_to(tmp_path / "disk" / "data.json")
    store(path, "t1")
    assert path.is_symlink()
    assert stock(tmp_path / "disk" / "data.json") == [record("t1")]
