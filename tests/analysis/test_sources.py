"""Which files of a folder are taken, and how many are not."""

from pathlib import Path

import pytest

from worker.analysis.sources import find_files
from worker.errors import UsageError

IMAGES = ("a.JPG", "b.jfif", "c.gif", "d.avif", "e/f.webp", "g.tiff")
VIDEOS = ("h.ts", "i.flv", "j.MOV", "k.m2ts")
OTHERS = ("l.txt", "m.heic", "n")
CLUTTER = ("._a.JPG", "__MACOSX/a.JPG", ".ipynb_checkpoints/a.jpg", "e/.hidden.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*IMAGES, *VIDEOS, *OTHERS, *CLUTTER):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_a_folder_gives_what_decodes_and_says_how_many_it_passed_over(folder: Path) -> None:
    found = find_files([folder])
    assert tuple(str(source.name) for source in found.sources) == IMAGES
    assert found.passed_over == len(VIDEOS + OTHERS)
    found = find_files([folder], videos=True)
    assert tuple(str(source.name) for source in found.sources) == (*IMAGES, *VIDEOS)
    assert found.passed_over == len(OTHERS)


def test_a_file_that_is_named_is_taken_whatever_its_name(folder: Path) -> None:
    found = find_files([folder / "l.txt", folder / ".ipynb_checkpoints"])
    assert [str(source.name) for source in found.sources] == ["l.txt", "a.jpg"]


def test_a_folder_without_images_and_a_path_that_is_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(UsageError, match="no image in this folder"):
        find_files([tmp_path])
    with pytest.raises(UsageError, match="nowhere: there is no such file"):
        find_files([tmp_path / "nowhere"])
