"""Viola-Jones with the real cascades, and the real second stage."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.photographs import ASTRONAUT_FACE, HOPPER_FACE, overlap, picture
from worker.analysis.classification import Classifier
from worker.analysis.detection import (
    FACE_WEIGHTS,
    MOST_WINDOWS,
    PROFILES,
    FaceDetector,
    search_settings,
)
from worker.analysis.grouping import group_windows
from worker.config import DetectionConfig

SCORER = Classifier(FACE_WEIGHTS)
DETECTORS = {name: FaceDetector(profile, SCORER) for name, profile in PROFILES.items()}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_finds_the_faces_where_they_are(profile: str) -> None:
    for name, truth in (("astronaut.jpg", ASTRONAUT_FACE), ("grace_hopper.jpg", HOPPER_FACE)):
        found = DETECTORS[profile].detect(picture(name, color=False))
        assert len(found) == 1
        assert overlap(found[0].box, truth) > 0.7
        assert found[0].confidence > 0.8


@pytest.mark.parametrize("profile", PROFILES)
def test_no_face_is_found_where_there_is_none(profile: str) -> None:
    assert DETECTORS[profile].detect(picture("coffee.jpg", color=False)) == []


def test_the_second_stage_rejects_what_the_cascades_let_through() -> None:
    coffee = picture("coffee.jpg", color=False)
    windows = DETECTORS["accurate"].windows(coffee)
    assert len(windows) > 0
    settings_, scores = PROFILES["accurate"], DETECTORS["accurate"].score(coffee, windows)
    groups = group_windows(windows, scores, settings_.evidence)
    assert len(groups) > 10
    assert max(group.confidence for group in groups) < settings_.min_confidence


class Lopsided:
    """A scorer that takes a window for a face the more, the brighter its left half is."""

    input_size = 8

    def classify(self, crops: list[np.ndarray]) -> np.ndarray:
        return np.array([[crop[:, :4].mean() / 255, 0] for crop in crops]).reshape(-1, 2)


@pytest.mark.parametrize(("left", "right", "score"), [(204, 51, 0.5), (255, 51, 1), (0, 255, 0)])
def test_a_doubtful_window_is_looked_at_in_the_mirror_as_well(
    left: int, right: int, score: float
) -> None:
    gray = np.full((20, 20), left, np.uint8)
    gray[:, 10:] = right
    detector = FaceDetector(PROFILES["fast"], Lopsided())  # type: ignore[arg-type]
    assert detector.score(gray, np.array([[0.0, 0, 20, 20]])) == pytest.approx([score])


def test_windows_that_overlap_are_one_face_where_the_surest_ones_are() -> None:
    windows = np.array([[0, 0, 10, 10], [100, 0, 120, 20], [2, 0, 12, 10], [98, 0, 118, 20]], float)
    first, second = group_windows(windows, np.array([0.6, 0.1, 0.2, 0.9]))
    assert first.box.tolist() == pytest.approx([98.2, 0, 118.2, 20], abs=1e-6)
    assert second.box.tolist() == pytest.approx([0.5, 0, 10.5, 10], abs=1e-6)
    assert first.size == second.size == 2
    # Log-odds of 0.9 and 0.1 cancel out; the one that is missing counts -4.
    assert first.confidence == pytest.approx(1 / (1 + np.exp(4 / 3)))
    assert group_windows(np.empty((0, 4)), np.empty(0)) == []


def test_many_sure_windows_make_a_sure_face_and_a_part_of_it_is_none() -> None:
    windows = np.array([[0, 0, 100, 100]] * 6 + [[20, 30, 50, 60]] * 6, float)
    [face] = group_windows(windows, np.array([0.95] * 6 + [0.9] * 6))
    assert face.confidence == pytest.approx(0.95)
    assert face.box.tolist() == pytest.approx([0, 0, 100, 100])


def test_a_tilted_face_is_found_where_it_is_by_the_accurate_profile() -> None:
    upright = picture("astronaut.jpg", color=False)
    turn = cv2.getRotationMatrix2D((223, 115), 30, 1)
    tilted = cv2.warpAffine(upright, turn, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    [found] = DETECTORS["accurate"].detect(np.asarray(tilted, np.uint8))
    assert overlap(found.box, ASTRONAUT_FACE) > 0.5


def test_a_crowd_is_searched_in_bounded_time() -> None:
    face = picture("grace_hopper.jpg", color=False)[100:340:5, 150:390:5]
    crowd = np.tile(np.pad(face, 6, mode="edge"), (14, 15))
    detector = FaceDetector(PROFILES["accurate"], SCORER)
    assert len(detector.windows(crowd, smallest=24)) <= MOST_WINDOWS
    assert len(detector.detect(crowd, smallest=24)) > 150


def test_faces_of_several_sizes_come_from_left_to_right() -> None:
    found = DETECTORS["default"].detect(picture("group.jpg", color=False))
    assert len(found) == 6
    lefts = [detection.box.x1 for detection in found]
    assert lefts == sorted(lefts)


def test_a_larger_smallest_face_leaves_out_the_small_ones() -> None:
    group = picture("group.jpg", color=False)
    share = 150 / max(group.shape)
    for config in (DetectionConfig(min_face=150), DetectionConfig(min_face_share=share)):
        found = FaceDetector(search_settings(config), SCORER).detect(group)
        assert 0 < len(found) < 6
        assert all(detection.box.x2 - detection.box.x1 > 100 for detection in found)


def test_a_single_key_overrides_the_profile() -> None:
    settings_ = search_settings(DetectionConfig(profile="fast", min_neighbors=0))
    assert settings_.min_neighbors == 0
    assert settings_.scale_step == PROFILES["fast"].scale_step
    face = picture("astronaut.jpg", color=False)
    assert (
        FaceDetector(search_settings(DetectionConfig(min_confidence=1)), SCORER).detect(face) == []
    )
    many = search_settings(DetectionConfig(min_neighbors=50, profile="fast"))
    assert FaceDetector(many, SCORER).detect(face) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 10_000), (10_000, 1), (19, 19), (20, 20), (33, 32)])
def test_pictures_of_any_shape_are_searched(shape: tuple[int, int]) -> None:
    for detector in DETECTORS.values():
        assert detector.detect(np.zeros(shape, np.uint8)) == []


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_boxes_lie_inside_the_picture(width: int, height: int, seed: int) -> None:
    face = picture("grace_hopper.jpg", color=False)[100:340, 150:390]
    left, top = np.random.default_rng(seed).integers(0, 200, 2)
    canvas = np.full((height, width), 90, np.uint8)
    cut = face[: max(0, height - top), : max(0, width - left)]
    canvas[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    for detection in DETECTORS["fast"].detect(canvas):
        box = detection.box
        assert 0 <= box.x1 < box.x2 <= width
        assert 0 <= box.y1 < box.y2 <= height
