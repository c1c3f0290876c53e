"""What a crash or a power cut leaves of an append is mended; other damage is never cut off."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.database.helpers import few, new_path, record, sidecar, stock, store, task_ids
from worker.database import Database, read_records, verify
from worker.database.reader import Documents
from worker.errors import DatabaseUnusable


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("earlier", [0, 2])
def test_each_state_that_one_append_can_leave_is_mended_to_before_or_after(
    tmp_path: Path, indexed: bool, earlier: int
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
        assert mended(tmp_path / "results.json", state) in (before, after)
        if number % 12:
            continue
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
            assert (database.known("new") is not None) == stored
            assert database.owed_count() == earlier + stored
            assert database.append(record("new")) != stored
            assert path.read_bytes() == after


def mended(path: Path, content: bytes) -> bytes:
    """What the worker makes of a file of this content; a reader of it sees the same records."""
    path.write_bytes(content)
    documents = Documents(path)
    entries = list(documents)
    assert documents.appendable
    whole = content[: documents.end] + b"}}"
    assert (documents.torn is None) == (content == whole)
    assert [entry.document for entry in entries] == list(json.loads(whole)["images"].values())
    return whole


@few
@given(size=st.integers(0, 300_000), cut=st.floats(0, 1, exclude_max=True))
def test_a_large_record_that_is_cut_off_anywhere_goes_to_the_torn_file(
    fresh: Path, size: int, cut: float
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


def test_the_log_says_what_was_cut_off(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store(path, "t1")
    path.write_bytes(path.read_bytes()[:-2] + b', "2": {"file')
    with caplog.at_level(logging.WARNING):
        assert verify(path).torn_bytes == 13
    assert "its 13 bytes were moved to" in caplog.text
    assert verify(path).torn_bytes is None


def test_what_a_longer_file_left_behind_a_whole_one_is_cut_off(path: Path) -> None:
    store(path, "t1")
    content = path.read_bytes()
    path.write_bytes(content + b'ce": "w"}, "3": {"file_name": "x"}}}')
    Database(path).close()
    assert path.read_bytes() == content


def after_a_power_cut(
    before: bytes, after: bytes, *, lost: set[int], size: int, sector: int
) -> bytes:
    """What is left of an append if these sectors of it never came, nor the file's new size.

    They hold what they held before; beyond the former end of the file that is zeros.
    """
    old = before.ljust(len(after), b"\0")
    parts = (
        (old if number in lost else after)[number * sector : (number + 1) * sector]
        for number in range(-(-len(after) // sector))
    )
    return b"".join(parts)[:size]


@settings(few, max_examples=150)
@given(data=st.data())
def test_whatever_part_of_an_append_a_power_cut_takes_only_that_append_is_gone(
    fresh: Path, data: st.DataObject
) -> None:
    # Given: a file of any size before and after an append of any size
    sector = data.draw(st.sampled_from([512, 4096]), "sector")
    length = data.draw(st.integers(0, 6 * sector), "its bytes")
    text = data.draw(st.sampled_from(["x", "}", '"', '}, "2": {', "\\", "é"])) * length
    tables: dict[str, Any] = {"notes": {"1": {"x": "x" * data.draw(st.integers(0, sector + 2))}}}
    tables["images"] = {"1": {"task_id": "t1"}} if data.draw(st.booleans(), "one before") else {}
    before = json.dumps(tables).encode()
    tables["images"]["2"] = {"nested": {"a": {"b": {}}}, "text": text[: 6 * sector]}
    after = json.dumps(tables).encode()
    # When: some of its sectors are lost, and perhaps its size
    touched = range((len(before) - 2) // sector, -(-len(after) // sector))
    lost = data.draw(st.sets(st.sampled_from(touched)), "lost")
    sizes = [len(before), len(after), *(n * sector for n in touched if n * sector > len(before))]
    size = data.draw(st.sampled_from(sizes), "size")
    left = after_a_power_cut(before, after, lost=lost, size=size, sector=sector)
    # Then: what the worker mends is the file before or after it
    assert mended(fresh / "results.json", left) in (before, after)


def test_each_subset_of_the_sectors_of_an_append_is_mended(tmp_path: Path) -> None:
    for shift in range(512):
        first, second = {"text": "x" * shift}, {"a": "y" * 1000}
        before = json.dumps({"images": {"1": first}}).encode()
        after = json.dumps({"images": {"1": first, "2": second}}).encode()
        if shift % 13 and len(before) % 512 > 3:
            continue  # of interest is above all where the former ending meets a sector's end
        touched = range((len(before) - 2) // 512, -(-len(after) // 512))
        for lost in subsets(touched):
            left = after_a_power_cut(before, after, lost=lost, size=len(after), sector=512)
            assert mended(tmp_path / "results.json", left) in (before, after)


def subsets(values: Iterable[int]) -> Iterator[set[int]]:
    found: list[int] = list(values)
    for size in range(len(found) + 1):
        yield from map(set, combinations(found, size))


def typo(record: bytes) -> bytes:
    return record.replace(b'"faces": [', b'"faces": ')


def lost_quote(record: bytes) -> bytes:
    return record.replace(b'"worker": "w"', b'"worker": "w')


def lost_last_quote(record: bytes) -> bytes:
    return record.replace(b'"t3"', b'"t3')


def foreign_encoding(record: bytes) -> bytes:
    return record.replace(b"angry", "ängry".encode("latin-1"))


def lost_comma(record: bytes) -> bytes:
    return record.replace(b', "worker"', b' "worker"')


def a_zero(record: bytes) -> bytes:
    return record.replace(b"angry", b"a\0gry")


def too_many_braces(record: bytes) -> bytes:
    return record.replace(b'"faces": []', b'"faces": []}')


@pytest.mark.parametrize("final", ["", "\n"])
@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize(
    "damage",
    [typo, lost_quote, lost_last_quote, foreign_encoding, lost_comma, a_zero, too_many_braces],
)
def test_damage_in_the_last_record_is_refused_as_in_any_other(
    path: Path, damage: Callable[[bytes], bytes], indexed: bool, final: str
) -> None:
    # Given: a complete file whose last record somebody spoiled
    store(path, "t1", "t2", "t3", owe=True)
    content = path.read_bytes()
    last = content.rindex(b'"3": {')
    damaged = content[:last] + damage(content[last:]) + final.encode()
    assert damaged != content
    path.write_bytes(damaged)
    if not indexed:
        sidecar(path).unlink()
    # Then: nobody reads past it, and nothing is cut off
    for attempt in (lambda: list(read_records(path)), lambda: Database(path), lambda: verify(path)):
        with pytest.raises(DatabaseUnusable, match="damaged"):
            attempt()
    assert path.read_bytes() == damaged
    assert not path.with_name("results.json.torn").exists()


def test_a_reader_passes_over_a_torn_tail_says_so_and_changes_nothing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store(path, "t1", "t2")
    torn = path.read_bytes()[:-20]
    path.write_bytes(torn)
    with caplog.at_level(logging.WARNING):
        assert task_ids(path) == ["t1"]
    assert "results --verify mends the file" in caplog.text
    assert path.read_bytes() == torn
    assert verify(path).torn_bytes
    assert stock(path) == [record("t1")]
