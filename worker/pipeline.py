"""One image from bytes to faces with emotions: decode, detect, crop, classify."""

import time

import cv2
import torch

from worker.classification import Classifier
from worker.config import Config
from worker.detection import FaceDetector, search_settings
from worker.errors import ImageLost
from worker.faces import Analysis, Face
from worker.preprocessing import Picture, crop_face, decode


class Pipeline:
    """Everything that is loaded once and used for every image. For one thread at a time.

    Raises UsageError where the weights cannot be used.
    """

    def __init__(self, config: Config) -> None:
        threads = config.classification.threads
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        self.classifier = Classifier(config.classification.weights, config.classification.classes)
        self._detector = FaceDetector(search_settings(config.detection))

    def analyze(self, content: bytes) -> Analysis:
        """Analyse an image file's bytes.

        Raises ImageLost where it does not decode, has too many pixels, or cannot be analysed.
        """
        started = time.perf_counter()
        try:
            gray = decode(content)
            faces = self.find_faces(gray)
        except (cv2.error, RuntimeError, MemoryError) as error:
            raise ImageLost("analysis_failed", f"{type(error).__name__}: {error}") from error
        height, width = gray.shape
        return Analysis(width, height, faces, (time.perf_counter() - started) * 1000)

    def find_faces(self, gray: Picture) -> tuple[Face, ...]:
        """Faces of a decoded picture uint8 ``(height, width)``, all classified in one batch."""
        boxes = [detection.box for detection in self._detector.detect(gray)]
        crops = [crop_face(gray, box, self.classifier.input_size) for box in boxes]
        classes = self.classifier.classes
        return tuple(
            Face(box, dict(zip(classes, row.tolist(), strict=True)))
            for box, row in zip(boxes, self.classifier.classify(crops), strict=True)
        )
