"""From bytes to pixels, from a box to the network's input: the one place that crops and normalises.

Training and the running worker both go through here, so that a network sees the same thing in both.
"""

import os

from worker.config import PIXEL_LIMIT_VARIABLE, ServerConfig

# OpenCV reads both once, when it is imported: how many pixels it decodes at most, and whether it
# writes to standard error on its own.
os.environ.setdefault(PIXEL_LIMIT_VARIABLE, str(ServerConfig().max_image_pixels))
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.errors import ImageLost
from worker.faces import Box

Picture = NDArray[np.uint8]

FLAT = 1.0  # gray levels: a crop with less contrast than this holds no face; do not amplify noise


def decode(content: bytes, *, color: bool = False) -> Picture:
    """Decode a JPEG, PNG, WEBP, BMP or TIFF file, upright as its EXIF orientation says.

    Returns uint8 ``(height, width)``, gray; with ``color`` ``(height, width, 3)``, blue-green-red.
    Transparency is dropped, 16 bits become 8.

    Raises ImageLost: ``not_an_image``, or ``too_many_pixels`` (before they are decoded) where it
    has more than OpenCV's limit, which the environment variable PIXEL_LIMIT_VARIABLE sets.
    """
    if not content:
        raise ImageLost("not_an_image", "the image is empty (0 bytes)")
    flags = cv2.IMREAD_COLOR if color else cv2.IMREAD_GRAYSCALE
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        if "IO_MAX_IMAGE" in str(error):
            limit = os.environ[PIXEL_LIMIT_VARIABLE]
            raise ImageLost(
                "too_many_pixels", f"the image has more than [server] max_image_pixels = {limit}"
            ) from error
        picture = None
    if picture is None:
        raise ImageLost(
            "not_an_image",
            f"its {len(content)} bytes do not decode as an image (or not to its end)",
        )
    return picture.astype(np.uint8, copy=False)


def crop_face(gray: Picture, box: Box, side: int) -> Picture:
    """Cut the square about a detected box out of a picture, as the networks were trained to see it.

    ``gray``: uint8 ``(height, width)``; ``box`` in its pixels. Returns uint8 ``(side, side)``. What
    lies beyond the picture's border repeats its outermost pixels.

    The box is neither enlarged nor moved: found again in FER+ validation faces, the cascade's box
    has 0.975 of the crop's side (median) and its centre (`benchmarks/box_scale.py`).
    """
    half = max(1, round(max(box.x2 - box.x1, box.y2 - box.y1) / 2))
    center_x, center_y = (box.x1 + box.x2) // 2, (box.y1 + box.y2) // 2
    left, top, right, bottom = center_x - half, center_y - half, center_x + half, center_y + half
    height, width = gray.shape
    inside = gray[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    beyond = ((max(-top, 0), max(bottom - height, 0)), (max(-left, 0), max(right - width, 0)))
    return resize(np.pad(inside, beyond, mode="edge"), side)


def resize(square: Picture, side: int) -> Picture:
    """Resize uint8 ``(n, n)`` to ``(side, side)``; where it shrinks, by averaging."""
    if square.shape[0] == side:
        return square
    shrinks = square.shape[0] > side
    resized = cv2.resize(
        square, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return resized.astype(np.uint8, copy=False)


def normalise(crops: Tensor) -> Tensor:
    """Crops in gray levels to the network's input, each face to zero mean and unit deviation.

    ``crops``: uint8 or float32 ``(n, side, side)``, 0..255. Result: float32 ``(n, 1, side, side)``.
    """
    faces = crops.float().unsqueeze(1)
    deviation, mean = torch.std_mean(faces, dim=(1, 2, 3), keepdim=True, correction=0)
    return (faces - mean) / deviation.clamp(min=FLAT)
