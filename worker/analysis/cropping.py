"""From bytes to pixels, from a box to the network's input: the one place that crops and normalises.

Training and the running worker both go through here, so that a network sees the same thing in both.
"""

import os
import struct

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
from worker.record import Box

Picture = NDArray[np.uint8]

FLAT = 1.0  # gray levels: a crop with less contrast than this holds no face; do not amplify noise


REDUCED = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
# The start-of-frame segments of JPEG (ISO/IEC 10918-1, table B.1), which hold its size.
FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
# Markers that no length follows, and filling: a decoder goes on behind them where we could not.
UNSIZED = {0x00, 0x01, *range(0xD0, 0xDA), 0xFF}


def decode(content: bytes, *, color: bool = False, reduction: int = 1) -> Picture:
    """Decode a JPEG, PNG, WEBP, BMP or TIFF file, upright as its EXIF orientation says.

    Returns uint8 ``(height, width)``, gray; with ``color`` ``(height, width, 3)``, blue-green-red.
    Transparency is dropped, 16 bits become 8. ``reduction`` 2, 4 or 8: only gray, and that many
    times smaller, which costs a JPEG a fraction of the time.

    Raises ImageLost: ``not_an_image``, or ``too_many_pixels`` (before they are decoded) where it
    has more than OpenCV's limit, which the environment variable PIXEL_LIMIT_VARIABLE sets.
    """
    if not content:
        raise ImageLost("not_an_image", "the image is empty (0 bytes)")
    limit = int(os.environ[PIXEL_LIMIT_VARIABLE])
    too_many = ImageLost(
        "too_many_pixels", f"the image has more than [server] max_image_pixels = {limit}"
    )
    # OpenCV compares the reduced size alone, but a progressive JPEG fills memory with the whole.
    if (size := jpeg_size(content)) and size[0] * size[1] > limit:
        raise too_many
    flags = cv2.IMREAD_COLOR if color else REDUCED[reduction]
    try:
        cut = _is_cut_png(content)
        picture = None if cut else cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        if "IO_MAX_IMAGE" in str(error):
            raise too_many from error
        picture = None
    if picture is None:
        raise ImageLost(
            "not_an_image",
            f"its {len(content)} bytes do not decode as an image (or not to its end)",
        )
    return picture.astype(np.uint8, copy=False)


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Width and height that a JPEG file states, before its EXIF orientation; None for anything
    else, and for a file whose segments do not lead to its frame."""
    at = 2
    if not content.startswith(b"\xff\xd8\xff"):
        return None
    while at + 4 <= len(content) and content[at] == 0xFF:
        kind, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4])
        if kind in FRAMES:
            height, width = struct.unpack_from(">HH", content[at + 5 : at + 9].ljust(4, b"\0"))
            return (width, height) if width and height else None
        if length < 2 or kind in UNSIZED:
            return None
        at += 2 + length
    return None


def _is_cut_png(content: bytes) -> bool:
    """Whether a PNG states a chunk that is longer than the file: OpenCV would fill that many bytes,
    up to 4 GB, before it finds out."""
    at, kind = 8, b""
    while content.startswith(b"\x89PNG\r\n\x1a\n") and at < len(content) and kind != b"IEND":
        length, kind = int.from_bytes(content[at : at + 4]), content[at + 4 : at + 8]
        at += 12 + length
    return at > max(8, len(content))


def crop_face(gray: Picture, box: Box, side: int) -> Picture:
    """Cut the square about a detected box out of a picture, as the networks were trained to see it.

    ``gray``: uint8 ``(height, width)``; ``box`` in its pixels. Returns uint8 ``(side, side)``. What
    lies beyond the picture's border repeats its outermost pixels.

    The box is neither enlarged nor moved: found again in FER+ validation faces, the detector's box
    has 0.967 of the crop's side (median) and its centre (`benchmarks/box_scale.py`).
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
