"""`crop`: faces as training sees them, each once, whatever else is in the folder."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.photographs import ASTRONAUT_FACE, SAMPLES, encode, overlap, picture
from tests.processes import Call
from worker.analysis.cropping import crop_face
from worker.analysis.sources import find_files
from worker.config import Config
from worker.errors import Stop, UsageError
from worker.record import Box
from worker.training.crop import COLUMNS, NEAR, Cropped, crop_faces, difference_hash
from worker.training.dataset import load_split


def crop(source: Path, output: Path) -> Cropped:
    return crop_faces(find_files([source]).sources, Config(), output)


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "crops.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "astronaut.jpg").write_bytes(SAMPLES["astronaut.jpg"])
    return folder


def test_a_crop_is_what_the_network_gets_to_see(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "faces"
    assert crop(source, output) == Cropped(images=1, faces=1)
    [row] = rows(output)
    assert tuple(row) == COLUMNS
    assert row["source"] == str(source / "astronaut.jpg")
    assert row["emotion"] == "happiness"
    assert 0 < float(row["probability"]) <= 1
    box = Box(*(int(row[key]) for key in ("x1", "y1", "x2", "y2")))
    assert overlap(box, ASTRONAUT_FACE) > 0.5
    written = cv2.imread(str(output / row["file"]), cv2.IMREAD_UNCHANGED)
    assert written is not None
    assert written.shape == (48, 48)
    gray = picture("astronaut.jpg", color=False)
    np.testing.assert_array_equal(written, crop_face(gray, box, 48))


def test_the_same_face_again_is_left_out_also_in_a_later_run(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "faces"
    brighter = cv2.convertScaleAbs(picture("astronaut.jpg"), alpha=1, beta=10)
    (source / "brighter.png").write_bytes(encode(".png", brighter))
    assert crop(source, output) == Cropped(images=2, faces=1, duplicates=1)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    assert crop(source, output) == Cropped(images=2, duplicates=2)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    (source / "hopper.jpg").write_bytes(SAMPLES["grace_hopper.jpg"])
    assert crop(source, output) == Cropped(images=3, faces=1, duplicates=2)
    assert len(rows(output)) == 2


def test_a_copy_is_near_and_a_stranger_is_not() -> None:
    gray = picture("astronaut.jpg", color=False)
    face = crop_face(gray, ASTRONAUT_FACE, 48)
    other = crop_face(picture("grace_hopper.jpg", color=False), Box(160, 100, 380, 320), 48)
    _, jpeg = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 60])
    copy = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE), np.uint8)
    assert 0 < (difference_hash(face) ^ difference_hash(copy)).bit_count() <= NEAR
    assert (difference_hash(face) ^ difference_hash(other)).bit_count() > 3 * NEAR


def test_bad_images_are_named_and_the_rest_is_done(
    source: Path, tmp_path: Path, call: Call
) -> None:
    (source / "a-page.png").write_text("<html>")
    (source / "b-\udcff.png").write_bytes(b"")
    done = call("crop", "source", "--output", "faces")
    assert done.returncode == 1
    assert "source/a-page.png: its 6 bytes do not decode" in done.stderr
    assert "1 new faces of 3 images, 0 near-duplicates left out, 2 images" in done.stdout
    assert len(rows(tmp_path / "faces")) == 1


def test_its_own_crops_are_no_source(source: Path, tmp_path: Path) -> None:
    assert crop(tmp_path, tmp_path / "faces").images == 1
    assert crop(tmp_path, tmp_path / "faces").images == 1


def test_a_name_of_any_bytes_is_a_line_of_text(source: Path, tmp_path: Path) -> None:
    (source / "astronaut.jpg").rename(source / "a\udcff,\n.jpg")
    for _ in range(2):
        crop(source, tmp_path / "faces")
        [row] = rows(tmp_path / "faces")
        assert row["source"] == str(source / "a\\udcff,\n.jpg")


def test_files_of_others_are_refused(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "faces"
    output.mkdir()
    (output / "crops.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match=r"crops\.csv, line 1: expected the columns file"):
        crop(source, output)


def test_a_crop_that_was_deleted_is_made_again_and_listed_once(
    source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "faces"
    crop(source, output)
    [before] = rows(output)
    (output / before["file"]).unlink()
    assert crop(source, output) == Cropped(images=1, faces=1)
    assert rows(output) == [before]


def test_a_folder_that_cannot_be_written_is_said(source: Path, tmp_path: Path) -> None:
    (tmp_path / "faces").write_text("a file")
    with pytest.raises(Stop, match="cannot write"):
        crop(source, tmp_path / "faces")


def test_training_reads_what_was_cropped_once_it_has_votes(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "faces"
    crop(source, output)
    name = rows(output)[0]["file"]
    (output / "label.csv").write_text(f'{name},"(0, 0, 48, 48)",0,10,0,0,0,0,0,0,0,0\n')
    faces = [len(load_split(output, split).crops) for split in ("FER2013Train", "FER2013Valid")]
    assert sum(faces) == 1
