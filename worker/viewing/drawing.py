"""Faces drawn into pictures: a box, and what is known of the face on a bar beside it."""

from collections.abc import Iterable, Sequence

import cv2

from worker.analysis.cropping import Picture
from worker.record import Box, Face, emotion_words, face_entry

COLOR, INK = (64, 220, 64), (0, 0, 0)  # blue, green, red
FONT = cv2.FONT_HERSHEY_SIMPLEX
SIZES = 0.45, 2.0  # of letters: legible, and not larger than needed
FOR_PAGES = cv2.IMWRITE_JPEG_QUALITY, 80  # small rather than perfect
WIDE = 280  # pixels: a box this wide has letters of size 1


def draw(picture: Picture, faces: Iterable[Face], threshold: float) -> Picture:
    """Draw boxes and the emotions that reach the threshold into uint8 ``(height, width, 3)``."""
    faces = tuple(faces)
    taken = [face.box for face in faces]
    for number, face in enumerate(faces, 1):
        first, *others = emotion_words(face_entry(number, face, threshold)) or ["-"]
        mark(picture, face.box, [f"{number} {first}", *others], taken)
    return picture


def mark(picture: Picture, box: Box, lines: Sequence[str], taken: list[Box]) -> None:
    """Draw a box with words below, above or beside it, where they hide least of what is ``taken``:
    faces, and words, to which these are added."""
    size = min(max((box.x2 - box.x1) / WIDE, SIZES[0]), SIZES[1])
    width, step = _extent(lines, size)
    height, (down, across) = step * len(lines), picture.shape[:2]
    below, above, right = (box.x1, box.y2), (box.x1, box.y1 - height), (box.x2, box.y1)
    bars = []
    for x, y in (below, above, (box.x2 - width, box.y2), right, (box.x1 - width, box.y1)):
        left, top = max(0, min(x, across - width)), max(0, min(y, down - height))
        bars.append(Box(left, top, left + width, top + height))
    bar = min(bars, key=lambda bar: sum(_shared(bar, other) for other in taken))
    taken.append(bar)
    cv2.rectangle(picture, (box.x1, box.y1), (box.x2, box.y2), COLOR, max(2, round(2 * size)))
    write(picture, lines, bar.x1, bar.y1, size)


def write(picture: Picture, lines: Sequence[str], left: int, top: int, size: float) -> None:
    """Write lines on a bar with this corner, dark on bright, whatever is behind them."""
    width, step = _extent(lines, size)
    cv2.rectangle(picture, (left, top), (left + width, top + step * len(lines)), COLOR, cv2.FILLED)
    for row, line in enumerate(lines):
        place = left + round(4 * size), top + row * step + round(24 * size)
        cv2.putText(picture, line, place, FONT, size, INK, _stroke(size), cv2.LINE_AA)


def encode(picture: Picture, suffix: str, settings: Sequence[int] = ()) -> bytes:
    """The file that a picture uint8 ``(height, width, 3)`` becomes; ``suffix``: its form;
    ``settings``: OpenCV's."""
    encoded, content = cv2.imencode(suffix, picture, settings)
    assert encoded
    return content.tobytes()


def _extent(lines: Sequence[str], size: float) -> tuple[int, int]:
    """Pixels that the longest line takes, and how far below one another lines stand."""
    longest = max(cv2.getTextSize(line, FONT, size, _stroke(size))[0][0] for line in lines)
    return longest + round(8 * size), round(33 * size)


def _stroke(size: float) -> int:
    return max(1, round(1.8 * size))


def _shared(a: Box, b: Box) -> int:
    """Pixels that lie in both."""
    width, height = min(a.x2, b.x2) - max(a.x1, b.x1), min(a.y2, b.y2) - max(a.y1, b.y1)
    return max(0, width) * max(0, height)
