"""Viola-Jones: where the faces are in a gray picture, with OpenCV's Haar cascades."""

from dataclasses import dataclass
from pathlib import Path

import cv2

from worker.config import DetectionConfig
from worker.faces import Box
from worker.preprocessing import Picture

CASCADE = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt.xml"
WINDOW = 20  # pixels: the smallest face that this cascade can see


@dataclass(frozen=True)
class SearchSettings:
    """``min_face`` in pixels; ``scale_step`` from one search size to the next, above 1;
    ``min_neighbors``: how many overlapping hits make a face."""

    min_face: int
    scale_step: float
    min_neighbors: int


PROFILES = {
    "fast": SearchSettings(min_face=40, scale_step=1.2, min_neighbors=2),
    "default": SearchSettings(min_face=32, scale_step=1.1, min_neighbors=3),
    "accurate": SearchSettings(min_face=20, scale_step=1.05, min_neighbors=4),
}


@dataclass(frozen=True)
class Detection:
    """A box and the cascade's score: higher is surer, the scale is the cascade's own."""

    box: Box
    score: float


def search_settings(config: DetectionConfig) -> SearchSettings:
    """The profile's settings, except where a key of `[detection]` says otherwise."""
    profile = PROFILES[config.profile]
    return SearchSettings(
        min_face=config.min_face or profile.min_face,
        scale_step=config.scale_step or profile.scale_step,
        min_neighbors=(
            profile.min_neighbors if config.min_neighbors is None else config.min_neighbors
        ),
    )


class FaceDetector:
    """Finds faces. Not safe for two threads at once: a cascade keeps state while it searches."""

    def __init__(self, settings: SearchSettings) -> None:
        self._settings = settings
        self._cascade = cv2.CascadeClassifier(str(CASCADE))

    def detect(self, gray: Picture) -> list[Detection]:
        """Faces of a picture uint8 ``(height, width)``, from left to right, boxes inside it.

        The picture is shrunk until the smallest face wanted just fills the cascade's window: a
        search costs as much as there are pixels, and finer ones would only show smaller faces.
        """
        height, width = gray.shape
        scale = min(1.0, WINDOW / self._settings.min_face)
        small_width, small_height = round(width * scale), round(height * scale)
        if min(small_width, small_height) < WINDOW:
            return []
        if scale < 1:
            gray = cv2.resize(gray, (small_width, small_height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        found, _, scores = self._cascade.detectMultiScale3(
            gray,
            scaleFactor=self._settings.scale_step,
            minNeighbors=self._settings.min_neighbors,
            outputRejectLevels=True,
        )
        detections = []
        for (x, y, w, h), score in zip(found, scores, strict=True):
            box = Box(
                x1=max(0, round(x * width / small_width)),
                y1=max(0, round(y * height / small_height)),
                x2=min(width, round((x + w) * width / small_width)),
                y2=min(height, round((y + h) * height / small_height)),
            )
            detections.append(Detection(box, float(score)))
        return sorted(detections, key=lambda detection: (detection.box.x1, detection.box.y1))
