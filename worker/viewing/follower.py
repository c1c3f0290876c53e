"""Faces in a video, followed from frame to frame.

A full search takes longer than a frame lasts. So every SEARCH_EVERY-th frame is searched and
classified in a thread of its own, and between these the boxes follow their faces, each by looking
for the same pixels nearby. A face that is not found again has no box until the next search.
"""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np

from worker.analysis.cropping import Picture
from worker.record import Box, Face
from worker.viewing.video import Frame, to_gray

SEARCH_EVERY = 5  # frames
SIDE = 32  # pixels: a followed face is shrunk to this
REACH = 0.4  # of a face's side: how far it may move from one frame to the next
ALIKE = 0.6  # correlation, -1..1, from which on it is the same face

FindFaces = Callable[[Picture], tuple[Face, ...]]
Track = tuple[Face, Picture]  # a face, and how its pixels looked when it was found


def follow(
    frames: Iterable[Frame], find_faces: FindFaces
) -> Generator[tuple[Picture, tuple[Face, ...]], None, None]:
    """Give each frame's picture with the faces on it, in turn.

    ``find_faces`` is called in another thread, one frame at a time, and its result is taken up
    SEARCH_EVERY frames later: what comes out does not depend on how fast the machine is. Raises
    what find_faces and frames raise.
    """
    since: list[Picture] = []  # the frame that is searched, and those after it
    tracks: list[Track] = []
    with ThreadPoolExecutor(1, thread_name_prefix="faces") as thread:
        for _, picture in frames:
            gray = to_gray(picture)
            if not since:  # nothing to show yet: this one is waited for
                search = thread.submit(find_faces, gray)
            since.append(gray)
            if len(since) in (1, SEARCH_EVERY + 1):
                tracks = [_track(since[0], face) for face in search.result()]
                for later in since[1:]:
                    tracks = _moved(later, tracks)
            else:
                tracks = _moved(gray, tracks)
            if len(since) > SEARCH_EVERY:
                search, since = thread.submit(find_faces, gray), [gray]
            yield picture, tuple(face for face, _ in tracks)


def _track(gray: Picture, face: Face) -> Track:
    box = face.box
    return face, _shrunk(gray[box.y1 : box.y2, box.x1 : box.x2], SIDE, SIDE)


def _moved(gray: Picture, tracks: Iterable[Track]) -> list[Track]:
    """The tracks where their pixels are now; without those that are not found nearby."""
    found = [(_find_again(gray, *track), track[1]) for track in tracks]
    return [(face, template) for face, template in found if face]


def _find_again(gray: Picture, face: Face, template: Picture) -> Face | None:
    box = face.box
    width, height = box.x2 - box.x1, box.y2 - box.y1
    left, top = max(0, box.x1 - round(REACH * width)), max(0, box.y1 - round(REACH * height))
    around = gray[top : box.y2 + round(REACH * height), left : box.x2 + round(REACH * width)]
    across, down = width / SIDE, height / SIDE  # pixels of the frame in one of the shrunk one
    small = _shrunk(around, round(around.shape[1] / across), round(around.shape[0] / down))
    if min(small.shape) < SIDE:
        return None
    alike = cv2.matchTemplate(small, template, cv2.TM_CCOEFF_NORMED)
    _, most, _, (x, y) = cv2.minMaxLoc(alike)
    if not most >= ALIKE:  # it may be no number
        return None
    x1, y1 = left + round(x * across), top + round(y * down)
    return replace(face, box=Box(x1, y1, x1 + width, y1 + height))


def _shrunk(gray: Picture, width: int, height: int) -> Picture:
    resized = cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)
    return resized.astype(np.uint8, copy=False)
