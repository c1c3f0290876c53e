"""Where the faces are in a gray picture: Viola-Jones proposes, a small network decides.

    picture -> shrunk -> OpenCV's Haar cascades -> windows -> merged -> face_net -> groups -> boxes

A cascade is a row of stages, each of which rejects what it takes for no face. Only its first stages
are used: so few faces are lost and the search is short. Alike windows are merged, and if there are
enough of them, a small network decides, better than the stages left out, and says where in the
window the face is; if it is in doubt, it looks there again.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.analysis.cropping import Picture
from worker.analysis.face_net import FaceNet
from worker.analysis.grouping import Windows, group_windows, log_odds, merge_windows, outer_boxes
from worker.errors import UsageError
from worker.record import Box

if TYPE_CHECKING:
    from worker.config import DetectionConfig

CASCADES = Path(cv2.__file__).parent / "data"
WINDOW = 24  # pixels: the largest window of a cascade; a smaller face cannot be seen
OCTAVE = 2  # a shrunk copy of the picture is searched for faces of up to so many windows
MOST_WINDOWS = 4000  # of one picture: bounds the time that a picture of a crowd can take
# Pixels of the longer side that is searched: bounds time, and OpenCV 4.14 crashes when one cascade
# has to search a very wide picture (107x65408) after others.
LONGEST = 4096
# Between these probabilities what may be a face is looked at again at its box, in LOOKS sizes and
# the mirror: that halves the faces that are invented at the same recall. Below, it is none.
DOUBTFUL = 0.1, 0.999
LOOKS = 1.0, 0.9, 1.1  # times the side of the box


@dataclass(frozen=True)
class View:
    """The first stages of one of OpenCV's cascades, and if the picture is mirrored before them. It
    searches for faces from ``coarser`` times the smallest one on."""

    cascade: str
    stages: int
    mirrored: bool = False
    coarser: float = 1


FRONT, OTHER_FRONT = "haarcascade_frontalface_alt2.xml", "haarcascade_frontalface_alt.xml"
PROFILE = "haarcascade_profileface.xml"
TWO_FRONTS = (View(FRONT, stages=9), View(OTHER_FRONT, stages=10, coarser=2))
EVERY_SIDE = (
    View(FRONT, stages=8),
    View(OTHER_FRONT, stages=10, coarser=1.5),
    View(PROFILE, stages=12, coarser=1.5),
    View(PROFILE, stages=12, coarser=1.5, mirrored=True),
)


@dataclass(frozen=True)
class SearchSettings:
    """How to search.

    ``min_face``: pixels of the picture; ``min_face_share``: of its longer side; the larger one
    counts. ``scale_step``: from one search size to the next, above 1. ``min_neighbors``: alike
    windows that it takes before the second stage looks. ``min_confidence``: 0..1, of the second
    stage, from what it sees and the ``prior``, the log-odds before it looks: who searches more
    finds more that is none.
    """

    views: tuple[View, ...]
    min_face: int
    min_face_share: float
    scale_step: float
    min_neighbors: int
    min_confidence: float
    prior: float

    def smallest_face(self, longer_side: int) -> float:
        """Side in pixels of the smallest face that is searched in a picture of that size."""
        return max(self.min_face, self.min_face_share * longer_side)


PROFILES = {
    "fast": SearchSettings((View(FRONT, stages=11),), 48, 0.05, 1.3, 1, 0.7, prior=-0.2),
    "default": SearchSettings(TWO_FRONTS, 36, 0.03, 1.26, 2, 0.72, prior=-1.0),
    "accurate": SearchSettings(EVERY_SIDE, 24, 0.02, 1.25, 1, 0.4, prior=-1.6),
}


@dataclass(frozen=True)
class Detection:
    """A box, and how sure it is, 0..1, that it holds a face."""

    box: Box
    confidence: float


def search_settings(config: "DetectionConfig") -> SearchSettings:
    """The profile's settings, but for what a key of `[detection]` says."""
    profile = PROFILES[config.profile]
    own = {k: v for k, v in vars(config).items() if k != "profile" and v is not None}
    return SearchSettings(**{**vars(profile), **own})


class FaceDetector:
    """Finds faces. Not safe for two threads at once: a cascade keeps state while it searches."""

    def __init__(self, settings: SearchSettings, face_net: FaceNet) -> None:
        self.settings = settings
        self._face_net = face_net
        self._cascades = {
            (view.cascade, view.stages): load_cascade(view.cascade, view.stages)
            for view in settings.views
        }

    def detect(self, gray: Picture, smallest: float | None = None) -> list[Detection]:
        """Faces of a picture uint8 ``(height, width)``, from left to right, boxes inside it.

        ``smallest``: side of the smallest face in this picture's pixels, if it is a shrunk copy;
        else what the settings say.
        """
        windows = merge_windows(self.windows(gray, smallest), self.settings.min_neighbors)
        scores, found = self._face_net.look(gray, windows)
        boxes, scores = group_windows(found, scores, DOUBTFUL[0])
        boxes, odds = self._look_again(gray, boxes, scores)
        confidences = 1 / (1 + np.exp(-self.settings.prior - odds))
        detections = [
            Detection(_inside(boxes[number], gray), float(confidences[number]))
            for number in outer_boxes(boxes, confidences)
            if confidences[number] >= self.settings.min_confidence
        ]
        return sorted(detections, key=lambda detection: (detection.box.x1, detection.box.y1))

    def windows(self, gray: Picture, smallest: float | None = None) -> Windows:
        """Every window that a cascade lets through, in pixels of the picture.

        The picture is shrunk until the smallest face wanted just fills a cascade's window: a search
        costs as much as there are pixels, and finer ones would only show smaller faces. Larger
        faces are searched in copies that are shrunk further, by OCTAVE each: there, too, a cascade
        can afford to look at every second pixel only.
        """
        height, width = gray.shape
        smallest = smallest or self.settings.smallest_face(max(height, width))
        found: list[Windows] = [np.empty((0, 4))]
        for view in self.settings.views:
            own_window = self._cascades[view.cascade, view.stages].getOriginalWindowSize()[0]
            scale = min(1.0, own_window / (smallest * view.coarser), LONGEST / max(height, width))
            while min(size := (round(width * scale), round(height * scale))) >= own_window:
                shrunk = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
                own = self._search(np.asarray(shrunk, np.uint8), view)
                found.append(own * (np.array([width, height] * 2) / np.array(size * 2)))
                scale /= OCTAVE
        windows = np.concatenate(found)
        step = -(-len(windows) // MOST_WINDOWS) or 1
        return windows[::step]

    def _search(self, picture: Picture, view: View) -> Windows:
        """What a view's cascade lets through in one octave of sizes, in pixels of the picture."""
        cascade = self._cascades[view.cascade, view.stages]
        largest = OCTAVE * cascade.getOriginalWindowSize()[0] - 1
        hits = cascade.detectMultiScale(
            cv2.flip(picture, 1) if view.mirrored else picture,
            scaleFactor=self.settings.scale_step,
            minNeighbors=0,
            maxSize=(largest, largest),
        )
        boxes = np.array(hits, float).reshape(-1, 4)
        # OpenCV's threads find windows in any order; which are merged hangs on it.
        boxes = boxes[np.lexsort(boxes.T[:3])]
        boxes[:, 2:] += boxes[:, :2]
        if view.mirrored:
            boxes[:, [2, 0]] = picture.shape[1] - boxes[:, [0, 2]]
        return boxes

    def _look_again(
        self, gray: Picture, boxes: Windows, scores: NDArray[np.float64]
    ) -> tuple[Windows, NDArray[np.float64]]:
        """The box of each group, ``(n, 4)``, and the log-odds ``(n,)`` that it is a face: from one
        look if that leaves no doubt, else from the mean of several at the box."""
        odds, doubtful = log_odds(scores), scores <= DOUBTFUL[1]
        windows = np.concatenate([_scaled(boxes[doubtful], look) for look in LOOKS])
        seen = [self._face_net.look(gray, windows, mirrored) for mirrored in (False, True)]
        again, found = map(np.concatenate, zip(*seen, strict=True))
        odds[doubtful] = log_odds(again).reshape(2 * len(LOOKS), -1).mean(axis=0)
        boxes[doubtful] = (boxes[doubtful] + found.reshape(2 * len(LOOKS), -1, 4).mean(axis=0)) / 2
        return boxes, odds


def load_cascade(name: str, stages: int) -> cv2.CascadeClassifier:
    """The first ``stages`` stages of one of OpenCV's cascades; it has 20 to 26.

    Raises UsageError if this OpenCV does not ship it.
    """
    if not (CASCADES / name).is_file():
        raise UsageError(f"OpenCV has no {name} in {CASCADES}; install opencv-python below 5")
    whole = ElementTree.parse(CASCADES / name).getroot()  # noqa: S314 (OpenCV's own file)
    parts, count = whole.find("cascade/stages"), whole.find("cascade/stageNum")
    assert parts is not None and count is not None
    del parts[stages:]
    count.text = str(stages)
    text = '<?xml version="1.0"?>\n' + ElementTree.tostring(whole, encoding="unicode")
    storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
    cascade = cv2.CascadeClassifier()
    loaded = cascade.read(storage.getFirstTopLevelNode())
    assert loaded, f"OpenCV does not take {name} with {stages} stages"
    return cascade


def _scaled(boxes: Windows, factor: float) -> Windows:
    """Boxes ``(n, 4)`` with the same centres and sides so many times as long."""
    more = (factor - 1) / 2 * (boxes[:, 2:] - boxes[:, :2])
    return np.hstack([boxes[:, :2] - more, boxes[:, 2:] + more])


def _inside(box: NDArray[np.float64], picture: Picture) -> Box:
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    return Box(max(0, x1), max(0, y1), min(picture.shape[1], x2), min(picture.shape[0], y2))
