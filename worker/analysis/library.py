"""The analysis as a library: from a picture to its faces with emotions, in three lines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.analysis.pipeline import Pipeline
from worker.config import ClassificationConfig, Config, DetectionConfig
from worker.record import Face


class Analyzer:
    """Finds faces and names their emotions, as the daemon does. For one thread at a time.

        analyzer = worker.Analyzer()
        for face in analyzer.faces("group.jpg"):
            print(face.box, face.probabilities)

    Networks are loaded once, here. ``weights``: a name from weights/, or a file. ``classes``: two
    or more emotions that share the probability among them; all eight if there are none. ``profile``
    and ``threads`` are those of worker.ini.

    Raises ValueError for an unknown class or profile, UsageError for weights that cannot be used.
    """

    def __init__(
        self,
        weights: str | Path = "emotion_net",
        *,
        classes: Sequence[str] = (),
        profile: Literal["fast", "default", "accurate"] = "default",
        threads: int = 1,
    ) -> None:
        network = ClassificationConfig(
            weights=Path(weights), classes=tuple(classes), threads=threads
        )
        self._pipeline = Pipeline(
            Config(detection=DetectionConfig(profile=profile), classification=network)
        )

    def faces(self, image: bytes | str | Path | NDArray[np.uint8]) -> tuple[Face, ...]:
        """The faces of one picture, from left to right; none is an empty tuple.

        ``image``: the bytes of an image file, its path, or pixels as OpenCV has them: uint8
        ``(height, width)``, gray, or ``(height, width, 3)``, blue-green-red. Raises ImageLost for
        bytes that are no image, ValueError for an array of another shape or type, OSError for a
        file that cannot be read.
        """
        if isinstance(image, np.ndarray):
            return self._pipeline.find_faces(_gray(image))
        content = image if isinstance(image, bytes) else Path(image).read_bytes()
        return self._pipeline.analyze(content).faces


def _gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not fits or not pixels.size:
        raise ValueError(
            f"an image must be uint8 (height, width) or (height, width, 3), not {pixels.dtype} "
            f"{pixels.shape}"
        )
    if pixels.ndim == 2:
        return pixels
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), np.uint8)
