"""One image from bytes to faces with emotions: decode, detect, crop, classify.

A large JPEG is decoded small for the search, and again only where a face in it is then too small
for the network: most of its pixels are never computed.
"""

import time
from dataclasses import dataclass

import cv2
import torch

from worker.analysis.classification import Classifier
from worker.analysis.cropping import REDUCED, Picture, crop_face, decode, jpeg_size
from worker.analysis.detection import FACE_WEIGHTS, WINDOW, Detection, FaceDetector, search_settings
from worker.config import Config
from worker.errors import ImageLost
from worker.record import Analysis, Box, Face


@dataclass(frozen=True)
class _View:
    """An image's pixels, ``reduction`` times smaller than the ``width`` and ``height`` it has."""

    gray: Picture
    reduction: int
    width: int
    height: int

    def original(self, box: Box) -> Box:
        """The box in pixels of the image itself."""
        height, width = self.gray.shape
        return _scaled(box, self.width / width, self.height / height)

    def own(self, box: Box) -> Box:
        """A box of the image in pixels of this view."""
        height, width = self.gray.shape
        return _scaled(box, width / self.width, height / self.height)


class Pipeline:
    """Everything that is loaded once and used for every image. For one thread at a time.

    Raises UsageError where the weights cannot be used.
    """

    def __init__(self, config: Config) -> None:
        threads = config.classification.threads
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        self.classifier = Classifier(config.classification.weights, config.classification.classes)
        self._detector = FaceDetector(search_settings(config.detection), Classifier(FACE_WEIGHTS))

    def analyze(self, content: bytes) -> Analysis:
        """Analyse an image file's bytes.

        Raises ImageLost where it does not decode, has too many pixels, or cannot be analysed.
        """
        started = time.perf_counter()
        try:
            view = self._view(content)
            smallest = self._detector.settings.smallest_face(max(view.width, view.height))
            found = [
                Detection(view.original(detection.box), detection.confidence)
                for detection in self._detector.detect(view.gray, smallest / view.reduction)
            ]
            needed = min((_side(each.box) for each in found), default=0)
            if found and view.reduction > (reduction := self._reduction(needed)):
                view = _View(
                    decode(content, reduction=reduction), reduction, view.width, view.height
                )
            faces = self._classify(view, found)
        except (cv2.error, RuntimeError, MemoryError) as error:
            raise ImageLost("analysis_failed", f"{type(error).__name__}: {error}") from error
        elapsed_ms = (time.perf_counter() - started) * 1000
        return Analysis(view.width, view.height, faces, elapsed_ms)

    def find_faces(self, gray: Picture) -> tuple[Face, ...]:
        """Faces of a decoded picture uint8 ``(height, width)``, all classified in one batch."""
        height, width = gray.shape
        return self._classify(_View(gray, 1, width, height), self._detector.detect(gray))

    def _view(self, content: bytes) -> _View:
        """The image at the size that the search needs."""
        size = jpeg_size(content)
        if size is not None:
            wanted = self._detector.settings.smallest_face(max(size))
            reduction = max(step for step in REDUCED if wanted >= step * WINDOW or step == 1)
            gray = decode(content, reduction=reduction)
            height, width = gray.shape
            # Its EXIF orientation may have turned it. Where both fit, only all pixels can tell.
            fits = [
                each
                for each in {size, size[::-1]}
                if (width, height) == tuple(-(-side // reduction) for side in each)
            ]
            if len(fits) == 1:
                return _View(gray, reduction, *fits[0])
        gray = decode(content)
        height, width = gray.shape
        return _View(gray, 1, width, height)

    def _reduction(self, side: int) -> int:
        """How much smaller an image may be while a face of that side still fills the network."""
        wanted = self.classifier.input_size
        return max(step for step in REDUCED if side >= step * wanted or step == 1)

    def _classify(self, view: _View, found: list[Detection]) -> tuple[Face, ...]:
        side = self.classifier.input_size
        crops = [crop_face(view.gray, view.own(each.box), side) for each in found]
        classes = self.classifier.classes
        return tuple(
            Face(each.box, dict(zip(classes, row.tolist(), strict=True)), each.confidence)
            for each, row in zip(found, self.classifier.classify(crops), strict=True)
        )


def _scaled(box: Box, across: float, down: float) -> Box:
    return Box(
        round(box.x1 * across), round(box.y1 * down), round(box.x2 * across), round(box.y2 * down)
    )


def _side(box: Box) -> int:
    return max(box.x2 - box.x1, box.y2 - box.y1)
