"""Photographs that come inside packages, and what is known to be on them."""

import cv2
import numpy as np

from worker.analysis.cropping import Picture
from worker.demo_server.sample_images import sample_images
from worker.record import Box

# Drawn by hand around each face, forehead to chin.
ASTRONAUT_FACE = Box(174, 66, 272, 164)
HOPPER_FACE = Box(160, 100, 380, 320)

SAMPLES = {sample.name: sample.content for sample in sample_images()}


def picture(name: str, *, color: bool = True) -> Picture:
    flags = cv2.IMREAD_COLOR if color else cv2.IMREAD_GRAYSCALE
    decoded = cv2.imdecode(np.frombuffer(SAMPLES[name], np.uint8), flags)
    return np.asarray(decoded, np.uint8)


def encode(suffix: str, pixels: np.ndarray) -> bytes:
    encoded, content = cv2.imencode(suffix, pixels)
    assert encoded
    return content.tobytes()


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a.x2, b.x2) - max(a.x1, b.x1)
    height = min(a.y2, b.y2) - max(a.y1, b.y1)
    shared = max(0, width) * max(0, height)
    area_a, area_b = ((x.x2 - x.x1) * (x.y2 - x.y1) for x in (a, b))
    return shared / (area_a + area_b - shared)
