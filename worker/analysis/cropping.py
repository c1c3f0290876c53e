"""From a box to the network's input: the one place that crops.

Training and the running worker both go through here, so that a network sees the same thing in both.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.record import Box

Picture = NDArray[np.uint8]


def crop_face(gray: Picture, box: Box, side: int) -> Picture:
    """Cut the square about a detected box out of a picture, as the networks were trained to see it.

    ``gray``: uint8 ``(height, width)``; ``box`` in its pixels. Returns uint8 ``(side, side)``. What
    lies beyond the picture's border repeats its outermost pixels.

    The box is neither enlarged nor moved: found again in FER+ validation faces, the detector's box
    has 0.99 of the crop's side (median) and its centre (`benchmarks/box_scale.py`).
    """
    half = max(1, round(max(box.x2 - box.x1, box.y2 - box.y1) / 2))
    center_x, center_y = (box.x1 + box.x2) // 2, (box.y1 + box.y2) // 2
    left, top, right, bottom = center_x - half, center_y - half, center_x + half, center_y + half
    height, width = gray.shape
    inside = gray[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    above, below = max(-top, 0), max(bottom - height, 0)
    before, behind = max(-left, 0), max(right - width, 0)
    whole = cv2.copyMakeBorder(inside, above, below, before, behind, cv2.BORDER_REPLICATE)
    return resize(np.asarray(whole, np.uint8), side)


def resize(square: Picture, side: int) -> Picture:
    """Resize uint8 ``(n, n)`` to ``(side, side)``; if it shrinks, by averaging."""
    if square.shape[0] == side:
        return square
    shrinks = square.shape[0] > side
    resized = cv2.resize(
        square, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return resized.astype(np.uint8, copy=False)
