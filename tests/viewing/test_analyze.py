"""`analyze --annotated`: every copy has a place of its own, and no original is lost."""

from pathlib import Path

import pytest

from tests.photographs import encode, picture
from tests.processes import Call
from worker.analysis.sources import Source, find_files
from worker.errors import UsageError
from worker.viewing.analyze import place_copies


def copies(*names: str) -> list[str]:
    sources = [Source(Path("somewhere", name), Path(name)) for name in names]
    return [str(copy) for copy in place_copies(sources, Path("drawn"))]


def test_equal_names_get_places_of_their_own() -> None:
    sources = [Source(Path(folder, "x.jpg"), Path("x.jpg")) for folder in "abc"]
    placed = place_copies(sources, Path("drawn"))
    assert [str(copy) for copy in placed] == ["drawn/x.jpg", "drawn/x-2.jpg", "drawn/x-3.jpg"]
    assert copies("x.jpg", "X.JPG", "x-2.jpg") == [
        "drawn/x.jpg",
        "drawn/X-2.JPG",
        "drawn/x-2-2.jpg",
    ]


def test_what_cannot_be_written_in_its_own_form_gets_another_suffix() -> None:
    assert copies("a.gif", "a.gif.png", "sub/b.avif", "c.avi", "c.mp4", "d") == [
        *("drawn/a.gif.png", "drawn/a.gif-2.png", "drawn/sub/b.avif.png"),
        *("drawn/c.avi.mp4", "drawn/c.mp4", "drawn/d.png"),
    ]


@pytest.mark.parametrize("name", ["a" * 251 + ".jpg", "a" * 251 + ".gif", "ж" * 125 + ".jpeg"])
def test_a_name_as_long_as_can_be_is_written(tmp_path: Path, name: str) -> None:
    sources = [Source(tmp_path / folder / name, Path(name)) for folder in "ab"]
    first, second = place_copies(sources, tmp_path)
    assert first != second
    for copy in (first, second):
        copy.touch()


def test_no_copy_replaces_an_original(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jpg").touch()
    sources = find_files([tmp_path / "a" / "x.jpg", tmp_path / "b" / "x.jpg"]).sources
    with pytest.raises(UsageError, match=r"x\.jpg is the original"):
        place_copies(sources, tmp_path / "b")


def test_the_command_draws_all_and_says_what_it_passed_over(tmp_path: Path, call: Call) -> None:
    for folder, suffix in (("a", ".png"), ("b", ".png")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"x{suffix}").write_bytes(encode(suffix, picture("coffee.jpg")))
    (tmp_path / "a" / "notes.txt").touch()
    done = call("analyze", "a", "b", "--annotated", "drawn")
    assert done.returncode == 0, done.stderr
    assert "passed over: 1 file" in done.stderr
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["x-2.png", "x.png"]
