"""The real cascade and the shipped weights on photographs: which emotion in which box."""

import struct

import cv2
import numpy as np
import pytest

from tests.photographs import ASTRONAUT_FACE, HOPPER_FACE, SAMPLES, encode, overlap, picture
from worker.analysis.pipeline import Pipeline
from worker.config import load_config
from worker.errors import ImageLost, UsageError
from worker.record import EMOTIONS, Box, Face


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(load_config(environment={}))


def top(face: Face) -> str:
    return max(face.probabilities, key=lambda name: face.probabilities[name])


def test_the_smiling_astronaut_is_happy_and_the_admiral_is_found(pipeline: Pipeline) -> None:
    astronaut = pipeline.analyze(SAMPLES["astronaut.jpg"])
    assert (astronaut.width, astronaut.height) == (512, 512)
    assert len(astronaut.faces) == 1
    assert overlap(astronaut.faces[0].box, ASTRONAUT_FACE) > 0.7
    assert top(astronaut.faces[0]) == "happiness"
    assert astronaut.faces[0].probabilities["happiness"] > 0.7
    hopper = pipeline.analyze(SAMPLES["grace_hopper.jpg"])
    assert len(hopper.faces) == 1
    assert overlap(hopper.faces[0].box, HOPPER_FACE) > 0.7


def test_a_group_is_analysed_as_its_members_are(pipeline: Pipeline) -> None:
    group = pipeline.analyze(SAMPLES["group.jpg"])
    assert len(group.faces) == 6
    astronauts = [face for face in group.faces if top(face) == "happiness"]
    assert len(astronauts) >= 3


def test_a_picture_without_a_face_gives_none(pipeline: Pipeline) -> None:
    assert pipeline.analyze(SAMPLES["coffee.jpg"]).faces == ()


def test_probabilities_cover_all_eight_emotions_and_add_up_to_one(pipeline: Pipeline) -> None:
    for face in pipeline.analyze(SAMPLES["group.jpg"]).faces:
        assert tuple(face.probabilities) == EMOTIONS
        assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_a_subset_of_the_classes_shares_the_probability(pipeline: Pipeline) -> None:
    config = load_config(environment={}, flags=["classification.classes=happiness,neutral"])
    whole = pipeline.analyze(SAMPLES["grace_hopper.jpg"]).faces[0].probabilities
    part = Pipeline(config).analyze(SAMPLES["grace_hopper.jpg"]).faces[0].probabilities
    assert list(part) == ["happiness", "neutral"]
    total = whole["happiness"] + whole["neutral"]
    assert part["happiness"] == pytest.approx(whole["happiness"] / total, abs=1e-4)


def test_what_is_expected_changes_probabilities_and_is_told(pipeline: Pipeline) -> None:
    config = load_config(environment={}, flags=["classification.expected=happiness 0, neutral 1"])
    analysis = Pipeline(config).analyze(SAMPLES["astronaut.jpg"])
    assert analysis.expected == "happiness 0, neutral 1"
    assert analysis.faces[0].probabilities["happiness"] < 0.01
    assert analysis.faces[0].probabilities["neutral"] > 0.99
    assert pipeline.analyze(SAMPLES["astronaut.jpg"]).expected is None


def test_turning_a_color_picture_to_gray_before_makes_no_difference(pipeline: Pipeline) -> None:
    color = pipeline.analyze(encode(".png", picture("astronaut.jpg"))).faces[0]
    gray = pipeline.analyze(encode(".png", picture("astronaut.jpg", color=False))).faces[0]
    assert overlap(color.box, gray.box) > 0.9
    for name in EMOTIONS:
        assert color.probabilities[name] == pytest.approx(gray.probabilities[name], abs=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (1, 10_000), (300, 300)])
def test_black_and_tiny_pictures_are_analysed(pipeline: Pipeline, shape: tuple[int, int]) -> None:
    analysis = pipeline.analyze(encode(".png", np.zeros(shape, np.uint8)))
    assert (analysis.height, analysis.width) == shape
    assert analysis.faces == ()


def test_what_is_no_image_is_lost(pipeline: Pipeline) -> None:
    with pytest.raises(ImageLost, match="do not decode"):
        pipeline.analyze(b"nothing of the kind")


def test_missing_weights_are_named() -> None:
    config = load_config(environment={}, flags=["classification.weights=none.onnx"])
    with pytest.raises(UsageError, match=r"there is no file none\.onnx"):
        Pipeline(config)


def turned(content: bytes, orientation: int) -> bytes:
    """A JPEG with an EXIF segment that states how it is to be turned."""
    tag = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + tag + bytes(4)
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:]


def enlarged(width: int) -> np.ndarray:
    """The group of six, so wide that a search needs a fraction of its pixels."""
    group = picture("group.jpg")
    size = (width, round(group.shape[0] * width / group.shape[1]))
    return np.asarray(cv2.resize(group, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def test_a_large_jpeg_decoded_small_gives_what_all_its_pixels_give(pipeline: Pipeline) -> None:
    large = enlarged(3001)
    height, width = large.shape[:2]
    reduced = pipeline.analyze(encode(".jpg", large))
    whole = pipeline.analyze(encode(".png", large))
    assert (reduced.width, reduced.height) == (whole.width, whole.height) == (width, height)
    assert len(reduced.faces) == len(whole.faces) == 6
    for one, other in zip(reduced.faces, whole.faces, strict=True):
        assert overlap(one.box, other.box) > 0.85
        assert top(one) == top(other)


@pytest.mark.parametrize("width", [700, 3001])
def test_a_jpeg_is_upright_as_its_exif_says_at_full_and_at_reduced_size(
    pipeline: Pipeline, width: int
) -> None:
    upright = enlarged(width)
    expected = pipeline.analyze(encode(".jpg", upright))
    sideways = np.rot90(upright)  # orientation 6: to be turned clockwise
    found = pipeline.analyze(turned(encode(".jpg", sideways), 6))
    assert (found.width, found.height) == (expected.width, expected.height)
    assert len(found.faces) == len(expected.faces)
    for one, other in zip(found.faces, expected.faces, strict=True):
        assert overlap(one.box, other.box) > 0.8


def test_a_square_jpeg_whose_turn_its_size_cannot_tell_is_decoded_whole(pipeline: Pipeline) -> None:
    canvas = cv2.resize(picture("astronaut.jpg"), (2001, 2000))
    found = pipeline.analyze(turned(encode(".jpg", np.rot90(canvas)), 6))
    assert (found.width, found.height) == (2001, 2000)
    assert len(found.faces) == 1


def test_fifty_megapixels_are_analysed_from_a_fraction_of_them(pipeline: Pipeline) -> None:
    canvas = np.full((6144, 8192), 90, np.uint8)
    face = cv2.resize(picture("grace_hopper.jpg", color=False), (1024, 1200))
    canvas[1000:2200, 6000:7024] = face
    [found] = pipeline.analyze(encode(".jpg", canvas)).faces
    across, down = 1024 / 512, 1200 / 600
    truth = Box(
        round(6000 + HOPPER_FACE.x1 * across),
        round(1000 + HOPPER_FACE.y1 * down),
        round(6000 + HOPPER_FACE.x2 * across),
        round(1000 + HOPPER_FACE.y2 * down),
    )
    assert overlap(found.box, truth) > 0.7


def test_in_noise_there_is_no_face(pipeline: Pipeline) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200)).astype(np.uint8)
    for coarse in (1, 8):  # grain of so many pixels
        grain = np.repeat(np.repeat(noise[::coarse, ::coarse], coarse, 0), coarse, 1)
        assert pipeline.analyze(encode(".png", grain)).faces == ()
