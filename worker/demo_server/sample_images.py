"""The demo's images: photographs that come inside packages, and what is made from them."""

from dataclasses import dataclass

import cv2
import matplotlib.cbook
import numpy as np
import skimage.data
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """An image to feed: its name, JPEG bytes, and a threshold of its own or None."""

    name: str
    content: bytes
    threshold: float | None = None


def sample_images() -> list[Sample]:
    """Photographs that come inside scikit-image and matplotlib, a group picture made from them, and
    one without a face."""
    astronaut = np.ascontiguousarray(skimage.data.astronaut()[:, :, ::-1])
    coffee = np.ascontiguousarray(skimage.data.coffee()[:, :, ::-1])
    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    hopper = np.asarray(cv2.imread(str(path)), np.uint8)
    return [
        Sample("astronaut.jpg", _jpeg(astronaut)),
        Sample("grace_hopper.jpg", _jpeg(hopper)),
        Sample("coffee.jpg", _jpeg(coffee)),
        Sample("group.jpg", _jpeg(group_picture(astronaut, hopper)), threshold=0.1),
        Sample("astronaut_small.jpg", _jpeg(_scaled(astronaut, 0.6))),
        Sample("grace_hopper_small.jpg", _jpeg(_scaled(hopper, 0.5))),
    ]


def group_picture(first: Picture, second: Picture) -> Picture:
    """Both people side by side at three sizes, six faces: uint8 ``(height, width, 3)``."""
    rows = []
    for scale in (1.0, 0.7, 0.45):
        pair = [_scaled(first, scale), _scaled(second, scale)]
        height = max(picture.shape[0] for picture in pair)
        rows.append(np.hstack([_padded(picture, height, picture.shape[1]) for picture in pair]))
    width = max(row.shape[1] for row in rows)
    return np.vstack([_padded(row, row.shape[0], width) for row in rows])


def _scaled(picture: Picture, scale: float) -> Picture:
    resized = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return resized.astype(np.uint8, copy=False)


def _padded(picture: Picture, height: int, width: int) -> Picture:
    canvas = np.full((height, width, 3), 128, np.uint8)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    return canvas


def _jpeg(picture: Picture) -> bytes:
    encoded, content = cv2.imencode(".jpg", picture)
    assert encoded
    return content.tobytes()
