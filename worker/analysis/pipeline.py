"""One image from bytes to faces with emotions: decode, detect, crop, classify.

A large JPEG is decoded small for the search, and again only if a face in it is then too small for
the network: most of its pixels are never computed.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from worker.analysis.classification import Classifier
from worker.analysis.cropping import Picture, crop_face
from worker.analysis.decoding import REDUCTIONS, View, decode_view, read_size
from worker.analysis.detection import WINDOW, Detection, FaceDetector, search_settings
from worker.analysis.face_net import FACE_WEIGHTS, FaceNet
from worker.errors import ImageLost
from worker.record import Analysis, Box, Face

if TYPE_CHECKING:
    from worker.config import Config


class Pipeline:
    """Everything that is loaded once and used for every image. For one thread at a time.

    Raises UsageError if the weights cannot be used.
    """

    def __init__(self, config: "Config") -> None:
        wanted = config.classification
        threads = wanted.threads
        cv2.setNumThreads(threads)
        weights = Path(wanted.weights)
        self.classifier = Classifier(weights, wanted.classes, threads, wanted.expected)
        face_net = FaceNet(FACE_WEIGHTS, threads=threads)
        self._detector = FaceDetector(search_settings(config.detection), face_net)
        self._max_pixels = config.server.max_image_pixels

    def analyze(self, content: bytes) -> Analysis:
        """Analyse an image file's bytes.

        Raises ImageLost if it does not decode, has too many pixels, or cannot be analysed.
        """
        started = time.perf_counter()
        try:
            longer_side = max(read_size(content, self._max_pixels))
            smallest = self._detector.settings.smallest_face(longer_side)
            reduction = _reduction(smallest, WINDOW)
            view = decode_view(content, reduction=reduction)
            across, down = view.scale
            found = [
                Detection(_scaled(each.box, across, down), each.confidence)
                for each in self._detector.detect(view.pixels, smallest / across)
            ]
            needed = min((each.box.x2 - each.box.x1 for each in found), default=smallest)
            enough = _reduction(needed, self.classifier.input_size)
            if found and enough < reduction:
                view = decode_view(content, reduction=enough)
            faces = self._classify(view, found)
        except (cv2.error, RuntimeError, MemoryError) as error:
            raise ImageLost("analysis_failed", f"{type(error).__name__}: {error}") from error
        elapsed_ms = (time.perf_counter() - started) * 1000
        return Analysis(view.width, view.height, faces, elapsed_ms, self.classifier.expected)

    def find_faces(self, gray: Picture) -> tuple[Face, ...]:
        """Faces of a decoded picture uint8 ``(height, width)``, all classified in one batch."""
        height, width = gray.shape
        return self._classify(View(gray, width, height), self._detector.detect(gray))

    def _classify(self, view: View, found: list[Detection]) -> tuple[Face, ...]:
        side, classes = self.classifier.input_size, self.classifier.classes
        across, down = view.scale
        boxes = [_scaled(each.box, 1 / across, 1 / down) for each in found]
        crops = [crop_face(view.pixels, box, side) for box in boxes]
        return tuple(
            Face(each.box, dict(zip(classes, row.tolist(), strict=True)), each.confidence)
            for each, row in zip(found, self.classifier.classify(crops), strict=True)
        )


def _reduction(side: float, wanted: int) -> int:
    """How much smaller a picture may be if ``side`` is still to have as many pixels as wanted."""
    return next((step for step in REDUCTIONS if side >= step * wanted), 1)


def _scaled(box: Box, across: float, down: float) -> Box:
    return Box(
        round(box.x1 * across), round(box.y1 * down), round(box.x2 * across), round(box.y2 * down)
    )
