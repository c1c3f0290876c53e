"""Which windows show a face, and where in them it is: by the network that is shipped."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.photographs import ASTRONAUT_FACE, picture
from worker.analysis.face_net import FACE_WEIGHTS, FaceNet
from worker.analysis.grouping import overlaps
from worker.errors import UsageError
from worker.files import weights_path

FACE_NET = FaceNet(FACE_WEIGHTS)
ASTRONAUT = picture("astronaut.jpg", color=False)
FACE = ASTRONAUT_FACE
TRUTH = np.array([FACE.x1, FACE.y1, FACE.x2, FACE.y2], float)
SIDE = float(TRUTH[2] - TRUTH[0])


@pytest.mark.parametrize("size", [1, 1.2, 1.4])
@pytest.mark.parametrize("across", [-0.15, 0, 0.15])
@pytest.mark.parametrize("down", [-0.15, 0, 0.15])
def test_a_window_that_is_off_says_where_the_face_is(
    across: float, down: float, size: float
) -> None:
    center = (TRUTH[:2] + TRUTH[2:]) / 2 + SIDE * np.array([across, down])
    half = size * SIDE / 2
    window = np.hstack([center - half, center + half])[None]
    [score], box = FACE_NET.look(ASTRONAUT, window)
    assert score > 0.5
    assert overlaps(TRUTH, box)[0] > 0.6


def test_in_the_mirror_the_face_is_at_the_same_place() -> None:
    windows = TRUTH + np.array([[-10], [12]])
    straight, boxes = FACE_NET.look(ASTRONAUT, windows)
    width = ASTRONAUT.shape[1]
    flipped = np.column_stack(
        [width - windows[:, 2], windows[:, 1], width - windows[:, 0], windows[:, 3]]
    )
    scores, found = FACE_NET.look(ASTRONAUT[:, ::-1], flipped, mirrored=True)
    assert scores == pytest.approx(straight)
    back = np.column_stack([width - found[:, 2], found[:, 1], width - found[:, 0], found[:, 3]])
    assert back == pytest.approx(boxes, abs=1e-3)


def test_no_window_shows_nothing() -> None:
    scores, boxes = FACE_NET.look(ASTRONAUT, np.empty((0, 4)))
    assert scores.shape == (0,) and boxes.shape == (0, 4)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 1000))
def test_a_box_never_lies_beside_the_picture(width: int, height: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, (height, width), dtype=np.uint8)
    centers = random.uniform(0, [width, height], (20, 2))
    half = random.uniform(1, 100, (20, 1))
    _, boxes = FACE_NET.look(noise, np.hstack([centers - half, centers + half]))
    assert (boxes[:, :2] < [width, height]).all() and (boxes[:, 2:] > 0).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_a_network_that_gives_no_boxes_is_refused() -> None:
    with pytest.raises(UsageError, match=r"emotion_net_small.* numbers a crop"):
        FaceNet(weights_path("emotion_net_small"))
