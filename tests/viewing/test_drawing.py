"""Drawings: each face keeps its box and its words, and no words lie on a face or on other words."""

from itertools import combinations

import cv2
import numpy as np
import pytest

from tests.photographs import overlap
from worker.record import Box, Face
from worker.viewing.drawing import COLOR, draw, mark

ROW = [Box(100 + 90 * n, 100, 190 + 90 * n, 190) for n in range(3)]
COLUMN = [Box(200, 90 * n, 290, 90 + 90 * n) for n in range(4)]
CORNERS = [Box(0, 0, 60, 60), Box(340, 0, 400, 60), Box(0, 340, 60, 400), Box(340, 340, 400, 400)]


@pytest.mark.parametrize("boxes", [ROW, COLUMN, CORNERS])
def test_words_lie_inside_the_picture_and_on_no_face_nor_other_words(boxes: list[Box]) -> None:
    picture, taken = np.full((400, 400, 3), 255, np.uint8), list(boxes)
    for number, box in enumerate(boxes, 1):
        mark(picture, box, [f"{number} neutral 0.93", "sadness 0.03"], taken)
    bars = taken[len(boxes) :]
    assert len(bars) == len(boxes)
    for bar in bars:
        assert min(bar.x1, bar.y1) >= 0
        assert max(bar.x2, bar.y2) <= 400
        assert (picture[bar.y1 + 1, bar.x1 + 1] == COLOR).all()
    assert all(overlap(a, b) == 0 for a, b in combinations([*boxes, *bars], 2))


def test_the_inside_of_a_face_is_left_as_it_was() -> None:
    picture = np.full((400, 400, 3), 77, np.uint8)
    faces = [Face(box, {"fear": 0.9, "anger": 0.05}) for box in ROW]
    draw(picture, faces, 0.04)
    for box in ROW:
        assert (picture[box.y1 + 2 : box.y2 - 1, box.x1 + 2 : box.x2 - 1] == 77).all()
    assert not (picture == 77).all()


def test_a_face_as_large_as_the_picture_has_its_words_at_the_bottom() -> None:
    picture = np.full((90, 200, 3), 0, np.uint8)
    draw(picture, [Face(Box(0, 0, 200, 90), {"fear": 0.9})], 0.5)
    green = cv2.inRange(picture, np.array(COLOR), np.array(COLOR))
    assert green[70:89, 3:60].mean() > 100
    assert not green[5:50, 5:195].any()
