"""What is known about the faces of one image, as plain data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """A bounding box in pixels of the upright, full-resolution image; x2 and y2 are exclusive."""

    x1: int
    y1: int
    x2: int
    y2: int


@dataclass(frozen=True)
class Face:
    """One face. ``probabilities``: calibrated, 0..1, by class name, adding up to 1.

    ``confidence``: 0..1, that it is a face.
    """

    box: Box
    probabilities: dict[str, float]
    confidence: float = 1.0


@dataclass(frozen=True)
class Analysis:
    """What was found in one image; ``elapsed_ms``: from bytes to probabilities."""

    width: int
    height: int
    faces: tuple[Face, ...]
    elapsed_ms: float
