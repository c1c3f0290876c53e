"""`import worker` as a library: from bytes, a path or pixels to faces with emotions."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import worker
from tests.photographs import SAMPLES

PORTRAIT = SAMPLES["astronaut.jpg"]


@pytest.fixture(scope="module")
def analyzer() -> worker.Analyzer:
    return worker.Analyzer()


def test_bytes_a_path_and_pixels_give_the_same_face(
    analyzer: worker.Analyzer, tmp_path: Path
) -> None:
    path = tmp_path / "portrait.jpg"
    path.write_bytes(PORTRAIT)
    pixels = np.asarray(cv2.imdecode(np.frombuffer(PORTRAIT, np.uint8), cv2.IMREAD_COLOR), np.uint8)
    found = [analyzer.faces(each) for each in (PORTRAIT, path, str(path), pixels)]
    for faces in found:
        [face] = faces
        assert max(face.probabilities, key=lambda name: face.probabilities[name]) == "happiness"
        assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-4)
        assert abs(face.box.x1 - found[0][0].box.x1) <= 3


def test_a_picture_without_a_face_gives_none(analyzer: worker.Analyzer) -> None:
    assert analyzer.faces(np.full((100, 100), 128, np.uint8)) == ()


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_bytes_that_are_no_image_are_an_error_of_their_own(
    analyzer: worker.Analyzer, content: bytes
) -> None:
    with pytest.raises(worker.ImageLost):
        analyzer.faces(content)


@pytest.mark.parametrize("pixels", [np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)])
def test_pixels_of_another_shape_are_named(
    analyzer: worker.Analyzer, pixels: NDArray[np.uint8]
) -> None:
    with pytest.raises(ValueError, match=r"must be uint8 \(height, width\)"):
        analyzer.faces(pixels)


def test_a_class_that_there_is_not_is_named() -> None:
    with pytest.raises(ValueError, match="happiness"):
        worker.Analyzer(classes=["happy", "anger"])


def test_weights_that_there_are_not_are_named() -> None:
    with pytest.raises(worker.WorkerError, match="emotion_nett"):
        worker.Analyzer("emotion_nett")


def test_a_name_that_the_library_lacks_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="analyser"):
        worker.analyser  # noqa: B018
