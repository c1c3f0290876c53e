"""The record: what is stored and posted about one image."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from worker.errors import ImageLost

Record = dict[str, Any]

# What the networks tell apart: the eight emotions in the order of FER+ (Barsoum et al. 2016).
EMOTIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")

FACE_CLASSES = ("face", "not a face")  # what the detector's second stage tells apart


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
    """What was found in one image; ``elapsed_ms``: from bytes to probabilities. ``expected``: how
    often emotions were said to be expected, if that changed the probabilities."""

    width: int
    height: int
    faces: tuple[Face, ...]
    elapsed_ms: float
    expected: str | None = None


def utc_now() -> str:
    """The time as records carry it: ISO 8601, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def build_record(
    *,
    file_name: str,
    threshold: float | None,
    outcome: Analysis | ImageLost,
    task_id: str | None,
    worker: str,
    network: str,
    now: Callable[[], str] = utc_now,
) -> Record:
    """Put together the record of one image, analysed or lost.

    ``threshold``: 0..1; None if the image was lost before one was known. ``task_id``: None for
    an image that no server gave; the record then has no such key.
    """
    record: Record = {"file_name": file_name, "threshold": threshold, "faces": []}
    if isinstance(outcome, ImageLost):
        record["error"] = {"type": outcome.kind, "message": str(outcome)}
    else:
        assert threshold is not None
        faces = enumerate(outcome.faces, 1)
        record["faces"] = [face_entry(number, face, threshold) for number, face in faces]
    if task_id is not None:
        record["task_id"] = task_id
    record |= {"processed_at": now(), "worker": worker, "network": network}
    if isinstance(outcome, Analysis):
        if outcome.expected is not None:
            record["expected"] = outcome.expected
        record["image_size"] = [outcome.width, outcome.height]
        record["elapsed_ms"] = round(outcome.elapsed_ms, 1)
    return record


def face_entry(face_id: int, face: Face, threshold: float) -> Record:
    """One face of a record: id, each class that reaches the threshold, box, confidence.

    A probability is rounded to two decimals before it is compared, so that no reader finds a value
    below the threshold that stands beside it. ``bbox`` is text: what readers of this file know.
    """
    rounded = {name: round(value, 2) for name, value in face.probabilities.items()}
    reached = {name: value for name, value in rounded.items() if value >= threshold}
    box = face.box
    return {
        "face_id": face_id,
        **reached,
        "bbox": [str(v) for v in (box.x1, box.y1, box.x2, box.y2)],
        "confidence": round(face.confidence, 2),
    }


def ranked_emotions(face: Record) -> list[tuple[str, float]]:
    """The emotions of a stored face with their probabilities, the surest first."""
    named = [(name, face[name]) for name in EMOTIONS if name in face]
    return sorted(named, key=lambda pair: -pair[1])


def emotion_words(face: Record) -> list[str]:
    """The same for a person: ``anger 0.70``."""
    return [f"{name} {value:.2f}" for name, value in ranked_emotions(face)]
