"""Viola-Jones with the real cascade."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.photographs import ASTRONAUT_FACE, HOPPER_FACE, overlap, picture
from worker.config import DetectionConfig
from worker.detection import PROFILES, FaceDetector, search_settings

DETECTORS = {name: FaceDetector(profile) for name, profile in PROFILES.items()}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_finds_the_faces_where_they_are(profile: str) -> None:
    for name, truth in (("astronaut.jpg", ASTRONAUT_FACE), ("grace_hopper.jpg", HOPPER_FACE)):
        found = DETECTORS[profile].detect(picture(name, color=False))
        assert max(overlap(detection.box, truth) for detection in found) > 0.7
        if profile != "accurate":
            assert len(found) == 1


def test_no_face_is_found_where_there_is_none() -> None:
    assert DETECTORS["default"].detect(picture("coffee.jpg", color=False)) == []


def test_faces_of_several_sizes_come_from_left_to_right() -> None:
    found = DETECTORS["default"].detect(picture("group.jpg", color=False))
    assert len(found) == 6
    lefts = [detection.box.x1 for detection in found]
    assert lefts == sorted(lefts)


def test_a_larger_smallest_face_leaves_out_the_small_ones() -> None:
    config = DetectionConfig(min_face=150)
    found = FaceDetector(search_settings(config)).detect(picture("group.jpg", color=False))
    assert 0 < len(found) < 6
    assert all(detection.box.x2 - detection.box.x1 > 100 for detection in found)


def test_a_single_key_overrides_the_profile() -> None:
    settings_ = search_settings(DetectionConfig(profile="fast", min_neighbors=0))
    assert settings_.min_neighbors == 0
    assert settings_.scale_step == PROFILES["fast"].scale_step


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
