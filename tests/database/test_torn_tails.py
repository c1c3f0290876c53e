"""What a crash or a power cut leaves of an append is mended; other damage is never cut off."""

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.database.helpers import few, new_path, record, sidecar, stock, store
from worker.database import (
    Database,
    verify,
)


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
