"""Whether a window of a picture holds a face, and where in it: the detector's second stage."""

import numpy as np
from numpy.typing import NDArray

from worker.analysis.classification import Classifier
from worker.analysis.cropping import Picture, crop_face
from worker.analysis.grouping import Windows
from worker.files import weights_path
from worker.record import Box

FACE_WEIGHTS = weights_path("face_net")
FARTHEST = 0.7  # what a box may differ from its window, as the network puts it
# What FER+ crops of a face, than the box that people draw about it, from hair to chin: so many
# times its side, and so many sides lower (`benchmarks/box_scale.py`).
SMALLER, LOWER = 0.907, 0.082


class FaceNet(Classifier):
    """A trained face_net. Raises UsageError when its file is missing, damaged or none."""

    other_outputs = (3,)  # a box

    def look(
        self, gray: Picture, windows: Windows, mirrored: bool = False
    ) -> tuple[NDArray[np.float64], Windows]:
        """The probability ``(n,)`` that each square window ``(n, 4)`` of a picture uint8
        ``(height, width)`` shows a face, and the box ``(n, 4)`` of the face: a square that shows of
        it what FER+ does.

        ``mirrored``: it is shown the mirror images. Raises ImageLost as `classify`.
        """
        corners = windows.round().astype(int).tolist()
        crops = [crop_face(gray, Box(*each), self.input_size) for each in corners]
        scores, found = self.ask([crop[:, ::-1] for crop in crops] if mirrored else crops)
        found = found.clip(-FARTHEST, FARTHEST)
        sides = windows[:, 2:] - windows[:, :2]
        own = np.exp(found[:, 2:]) * sides  # of the boxes that people draw
        move = found[:, :2] * ([-1, 1] if mirrored else [1, 1]) * sides + own * [0, LOWER]
        # So that a box is never beside the picture.
        centers = ((windows[:, :2] + windows[:, 2:]) / 2 + move).clip(0, gray.shape[::-1])
        half = SMALLER * own / 2
        return scores[:, 0].astype(float), np.hstack([centers - half, centers + half])
