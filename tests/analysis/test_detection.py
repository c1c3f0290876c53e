"""Viola-Jones with the real cascades, and the real second stage."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.photographs import ASTRONAUT_FACE, HOPPER_FACE, overlap, picture
from worker.analysis.cropping import crop_face
from worker.analysis.detection import MOST_WINDOWS, PROFILES, FaceDetector, search_settings
from worker.analysis.face_net import FACE_WEIGHTS, FaceNet
from worker.analysis.grouping import group_windows, merge_windows, outer_boxes
from worker.config import DetectionConfig
from worker.record import Box

FACE_NET = FaceNet(FACE_WEIGHTS)
DETECTORS = {name: FaceDetector(profile, FACE_NET) for name, profile in PROFILES.items()}


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
    let_through = replace(PROFILES["accurate"], min_confidence=0, prior=20)
    detector = FaceDetector(let_through, FACE_NET)
    windows = merge_windows(detector.windows(coffee), let_through.min_neighbors)
    assert len(windows) > 10
    assert all(found.confidence < 0.5 for found in DETECTORS["accurate"].detect(coffee))
    scores, _ = FACE_NET.look(coffee, windows)
    assert np.median(scores) < 0.01


class Lopsided:
    """Takes a window for a face the more, the brighter its left half is, and the face to be as
    far to the right as ``away`` says."""

    def __init__(self, away: float = 0) -> None:
        self.looks, self.away = 0, away

    def look(
        self, gray: np.ndarray, windows: np.ndarray, mirrored: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        self.looks += len(windows)
        halves = slice(4, 8) if mirrored else slice(4)
        crops = [crop_face(gray, Box(*window.round().astype(int)), 8) for window in windows]
        scores = [crop[:, halves].mean() / 255 for crop in crops]
        return np.array(scores), windows + np.array([self.away, 0] * 2)


@pytest.mark.parametrize(
    ("left", "right", "confidence", "looks"),
    [(204, 51, 0.5, 7), (255, 51, 1, 1), (0, 255, None, 1), (128, 128, 0.502, 7)],
)
def test_what_is_in_doubt_is_looked_at_again_in_the_mirror_too(
    left: int, right: int, confidence: float | None, looks: int
) -> None:
    gray = np.full((24, 24), left, np.uint8)
    gray[:, 12:] = right
    face_net = Lopsided()
    sees_one = replace(PROFILES["fast"], prior=0, min_confidence=0)
    detector = FaceDetector(sees_one, face_net)  # type: ignore[arg-type]
    detector.windows = lambda *_: np.array([[0.0, 0, 24, 24]])  # type: ignore[method-assign]
    found = detector.detect(gray)
    assert [each.confidence for each in found] == (
        [pytest.approx(confidence, abs=1e-2)] if confidence else []
    )
    assert face_net.looks == looks


def test_the_box_is_where_the_face_is_said_to_be() -> None:
    gray = np.full((24, 64), 128, np.uint8)
    sees_one = replace(PROFILES["fast"], prior=0, min_confidence=0)
    detector = FaceDetector(sees_one, Lopsided(away=10))  # type: ignore[arg-type]
    detector.windows = lambda *_: np.array([[0.0, 0, 20, 20]])  # type: ignore[method-assign]
    [found] = detector.detect(gray)
    # At first 10 pixels off; then it is looked for there again, and is the mean of both.
    assert (found.box.x1 + found.box.x2) / 2 == pytest.approx(25, abs=0.5)


def test_alike_windows_become_their_mean_and_others_stay() -> None:
    windows = np.array([[0, 0, 10, 10], [50, 0, 60, 10], [2, 0, 12, 10], [0, 0, 40, 40]], float)
    assert merge_windows(windows, 1).tolist() == [[1, 0, 11, 10], [50, 0, 60, 10], [0, 0, 40, 40]]
    assert merge_windows(windows, 2).tolist() == [[1, 0, 11, 10]]
    assert merge_windows(np.empty((0, 4)), 1).shape == (0, 4)


@given(st.integers(1, 60), st.integers(0, 1000))
def test_a_window_that_is_seen_twice_is_alike_to_itself(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 60, (count, 2))
    windows = np.hstack([corners, corners + random.uniform(20, 60, (count, 1))])
    once, twice = merge_windows(windows, 1), merge_windows(windows.repeat(2, axis=0), 2)
    assert 1 <= len(once) <= count
    assert twice == pytest.approx(once)
    assert len(merge_windows(windows, 2)) <= len(once)


def test_windows_that_overlap_are_one_face_where_the_surest_ones_are() -> None:
    windows = np.array([[0, 0, 10, 10], [100, 0, 120, 20], [2, 0, 12, 10], [98, 0, 118, 20]], float)
    scores = np.array([0.8, 0.1, 0.4, 0.9])
    (first, second), best = group_windows(windows, scores, least=0)
    assert best.tolist() == [0.9, 0.8]
    assert first.tolist() == pytest.approx([98.2, 0, 118.2, 20])
    assert second.tolist() == pytest.approx([2 / 3, 0, 10 + 2 / 3, 10])
    assert len(group_windows(windows, scores, least=0.85)[0]) == 1
    nothing, none = group_windows(windows[:0], scores[:0], least=0)
    assert nothing.shape == (0, 4) and none.shape == (0,)


def test_a_part_of_a_surer_face_is_none() -> None:
    boxes = np.array([[20, 30, 50, 60], [0, 0, 100, 100], [200, 0, 260, 60]], float)
    assert outer_boxes(boxes, np.array([0.9, 0.95, 0.2])) == [1, 2]
    assert outer_boxes(boxes, np.array([0.96, 0.95, 0.2])) == [0, 2]
    assert outer_boxes(np.empty((0, 4)), np.empty(0)) == []


def test_a_tilted_face_is_found_where_it_is_by_the_accurate_profile() -> None:
    upright = picture("astronaut.jpg", color=False)
    turn = cv2.getRotationMatrix2D((223, 115), 30, 1)
    tilted = cv2.warpAffine(upright, turn, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    [found] = DETECTORS["accurate"].detect(np.asarray(tilted, np.uint8))
    assert overlap(found.box, ASTRONAUT_FACE) > 0.5


def test_the_same_picture_gives_the_same_faces_however_many_threads_search_it() -> None:
    group, before = picture("group.jpg", color=False), cv2.getNumThreads()
    found = []
    for threads in (1, 2, 5):
        cv2.setNumThreads(threads)
        found += [[detector.detect(group) for detector in DETECTORS.values()]] * 2
    cv2.setNumThreads(before)
    assert all(each == found[0] for each in found)


def test_a_crowd_is_searched_in_bounded_time() -> None:
    face = picture("grace_hopper.jpg", color=False)[100:340:5, 150:390:5]
    crowd = np.tile(np.pad(face, 6, mode="edge"), (14, 15))
    detector = FaceDetector(PROFILES["accurate"], FACE_NET)
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
        found = FaceDetector(search_settings(config), FACE_NET).detect(group)
        assert 0 < len(found) < 6
        assert all(detection.box.x2 - detection.box.x1 > 100 for detection in found)


def test_a_single_key_overrides_the_profile() -> None:
    settings_ = search_settings(DetectionConfig(profile="fast", min_neighbors=0))
    assert settings_.min_neighbors == 0
    assert settings_.scale_step == PROFILES["fast"].scale_step
    face = picture("astronaut.jpg", color=False)
    assert (
        FaceDetector(search_settings(DetectionConfig(min_confidence=1)), FACE_NET).detect(face)
        == []
    )
    many = search_settings(DetectionConfig(min_neighbors=50, profile="fast"))
    assert FaceDetector(many, FACE_NET).detect(face) == []


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
