"""Boxes become what a network sees."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from worker.analysis.cropping import crop_face, resize
from worker.record import Box


def test_a_crop_is_the_box_itself() -> None:
    gray = np.arange(10_000, dtype=np.uint8).reshape(100, 100)
    assert np.array_equal(crop_face(gray, Box(20, 30, 68, 78), 48), gray[30:78, 20:68])


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_a_crop_has_the_size_asked_for_wherever_the_box_lies(
    width: int, height: int, data: st.DataObject
) -> None:
    gray = np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.uint8)
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = Box(x1, y1, data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height)))
    crop = crop_face(gray, box, 48)
    assert crop.shape == (48, 48)
    assert crop.dtype == np.uint8
    assert gray.min() <= crop.min()
    assert crop.max() <= gray.max()


def test_a_crop_beyond_the_border_repeats_the_outermost_pixels() -> None:
    gray = np.full((10, 20), 7, np.uint8)
    assert np.array_equal(crop_face(gray, Box(0, 0, 20, 10), 48), np.full((48, 48), 7, np.uint8))


def test_resizing_to_the_same_side_changes_nothing() -> None:
    crop = np.random.default_rng(0).integers(0, 256, (48, 48)).astype(np.uint8)
    assert np.array_equal(resize(crop, 48), crop)
