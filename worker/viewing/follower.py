"""Faces in a video, followed from frame to frame.

A full search takes longer than a frame lasts. So every SEARCH_EVERY-th frame is searched and
classified in a thread of its own, and between these the boxes follow their faces, each by looking
for the same pixels nearby. A face that is not found again has no box until the next search.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import cv2
import numpy as np

from worker.analysis.cropping import Picture
from worker.record import Box, Face

SEARCH_EVERY = 5  # frames
SIDE = 32  # pixels: a followed face is shrunk to this
REACH = 0.4  # of a face's side: how far it may move from one frame to the next
ALIKE = 0.6  # correlation, -1..1, from which on it is the same face

FindFaces = Callable[[Picture], tuple[Face, ...]]


@dataclass(frozen=True)
class _Track:
    """A face and how its pixels looked when it was found."""

    face: Face
    template: Picture


class Follower(AbstractContextManager["Follower"]):
    """Gives the faces of each frame in turn; a context manager. ``find_faces`` is called in another
    thread, one frame at a time, and its result is taken up SEARCH_EVERY frames later: what comes
    out does not depend on how fast the machine is.
    """

    def __init__(self, find_faces: FindFaces) -> None:
        self._find_faces = find_faces
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="faces")
        self._frames: list[Picture] = []  # the one that is searched, and those after it
        self._search: Future[tuple[Face, ...]] = Future()
        self._tracks: list[_Track] = []

    def step(self, gray: Picture) -> tuple[Face, ...]:
        """The faces of the next frame, uint8 ``(height, width)``. Raises what find_faces raises."""
        if not self._frames:
            self._begin_search(gray)
            self._take_up_search()  # nothing to show yet: wait for it
        elif len(self._frames) < SEARCH_EVERY:
            self._frames.append(gray)
            self._follow(gray)
        else:
            self._frames.append(gray)
            self._take_up_search()
            self._begin_search(gray)
        return tuple(track.face for track in self._tracks)

    def _begin_search(self, gray: Picture) -> None:
        self._search = self._thread.submit(self._find_faces, gray)
        self._frames = [gray]

    def _take_up_search(self) -> None:
        """Wait for the search, and follow what it found through the frames that came since."""
        searched, *after = self._frames
        self._tracks = [_track(searched, face) for face in self._search.result()]
        for gray in after:
            self._follow(gray)

    def _follow(self, gray: Picture) -> None:
        moved = [_find_again(gray, track) for track in self._tracks]
        self._tracks = [track for track in moved if track]

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()


def _track(gray: Picture, face: Face) -> _Track:
    box = face.box
    return _Track(face, _shrunk(gray[box.y1 : box.y2, box.x1 : box.x2], SIDE, SIDE))


def _find_again(gray: Picture, track: _Track) -> _Track | None:
    """The track moved to where its pixels are now; None when they are not found nearby."""
    box = track.face.box
    width, height = box.x2 - box.x1, box.y2 - box.y1
    left, top = max(0, box.x1 - round(REACH * width)), max(0, box.y1 - round(REACH * height))
    around = gray[top : box.y2 + round(REACH * height), left : box.x2 + round(REACH * width)]
    across, down = width / SIDE, height / SIDE  # pixels of the frame in one of the shrunk one
    small = _shrunk(around, round(around.shape[1] / across), round(around.shape[0] / down))
    if min(small.shape) < SIDE:
        return None
    alike = cv2.matchTemplate(small, track.template, cv2.TM_CCOEFF_NORMED)
    _, most, _, (x, y) = cv2.minMaxLoc(alike)
    if not most >= ALIKE:  # it may be no number
        return None
    x1, y1 = left + round(x * across), top + round(y * down)
    return replace(track, face=replace(track.face, box=Box(x1, y1, x1 + width, y1 + height)))


def _shrunk(gray: Picture, width: int, height: int) -> Picture:
    resized = cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)
    return resized.astype(np.uint8, copy=False)
