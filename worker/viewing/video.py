"""Videos: read frame by frame or at intervals, and written. Frames are upright, as their file says.

Pictures are uint8 ``(height, width, 3)``, blue-green-red; times are seconds from the beginning.
"""

import os
from collections.abc import Generator
from contextlib import AbstractContextManager
from pathlib import Path

import cv2
import numpy as np

from worker.analysis.cropping import Picture
from worker.errors import ImageLost, Stop, UsageError

# What OpenCV and FFmpeg would write to standard error is said by our own errors.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when it is first used

Frame = tuple[float, Picture]  # its time, and what is on it
USUAL_RATE = 25.0  # frames a second, if a source does not say or says nonsense


def to_gray(picture: Picture) -> Picture:
    """A frame as faces are searched in: uint8 ``(height, width)``."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)


class Video(AbstractContextManager["Video"]):
    """A video, open; a context manager. ``source``: a file's path, or, as text, an address or a
    camera's number. ``max_pixels``: that a frame may have.

    ``rate``: frames a second. ``length``: seconds, None for a camera or a stream without an end.

    Raises ImageLost: ``not_a_video`` if it does not open, ``too_many_pixels``.
    """

    def __init__(self, source: Path | str, max_pixels: int) -> None:
        # FFmpeg only: OpenCV would try series of images, and what else it knows. The full path of a
        # file, as FFmpeg takes a name such as `concat:x` for an instruction.
        place = str(source.resolve()) if isinstance(source, Path) else source
        if place.isdecimal():
            self._capture = cv2.VideoCapture(int(place), cv2.CAP_ANY)
        else:
            self._capture = cv2.VideoCapture(place, cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            camera = f"there is no camera {place}"
            what = camera if place.isdecimal() else "it does not open as a video"
            raise ImageLost("not_a_video", what)
        get = self._capture.get
        if get(cv2.CAP_PROP_FRAME_WIDTH) * get(cv2.CAP_PROP_FRAME_HEIGHT) > max_pixels:
            raise ImageLost(
                "too_many_pixels",
                f"its frames have more than [server] max_image_pixels = {max_pixels}",
            )
        rate, count = get(cv2.CAP_PROP_FPS), get(cv2.CAP_PROP_FRAME_COUNT)
        self.rate = rate if 0 < rate <= 1000 else USUAL_RATE
        self.length = count / self.rate if count > 0 else None

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def frames(self, every: float = 0) -> Generator[Frame, None, None]:
        """Time and picture of each frame, or of the first one in each ``every`` seconds.

        Raises ImageLost, after the last one, if there is none (``not_a_video``), a file ends long
        before the length that it states, or what has no end has ended (``cut_short``).
        """
        number, due, seconds = 0, 0.0, 0.0
        while self._capture.grab():
            seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 or number / self.rate
            number += 1
            if seconds < due:
                continue
            good, picture = self._capture.retrieve()
            if not good:
                break
            due = (seconds // every + 1) * every if every else seconds
            yield seconds, picture  # type: ignore[misc]
        if not number:
            raise ImageLost("not_a_video", "it holds no frame that can be decoded")
        if self.length is None:
            raise ImageLost("cut_short", "it gives no more frames")
        if seconds < 0.9 * self.length - 1:
            raise ImageLost(
                "cut_short", f"it ends after {seconds:.1f} s of the {self.length:.1f} s it states"
            )


class VideoFile(AbstractContextManager["VideoFile"]):
    """An MP4 file (MPEG-4 part 2) being written, ``rate`` frames a second; a context manager.

    All frames get the size of the first one. Raises UsageError for another suffix, and from the
    first frame if it cannot be written; Stop at the end if the disk did not take all of it.
    """

    def __init__(self, path: Path, rate: float) -> None:
        if path.suffix.lower() != ".mp4":
            raise UsageError(f"{path}: a video is written as .mp4; give it that suffix")
        self._path, self._rate, self._count = path, rate, 0
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def write(self, picture: Picture) -> None:
        """Add a frame."""
        height, width = picture.shape[:2]
        if self._writer is None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.open("wb").close()
            except OSError as error:
                raise UsageError(f"cannot write {self._path}: {error.strerror}") from error
            place, code = str(self._path.resolve()), cv2.VideoWriter.fourcc(*"mp4v")
            self._size = (width, height)
            self._writer = cv2.VideoWriter(place, cv2.CAP_FFMPEG, code, self._rate, self._size)
        same = (width, height) == self._size
        self._writer.write(picture if same else cv2.resize(picture, self._size))
        self._count += 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writer is None:
            return
        self._writer.release()
        # The writer says nothing of a full disk; a file whose end is missing does not open.
        written = cv2.VideoCapture(str(self._path.resolve()), cv2.CAP_FFMPEG)
        count = max(0, int(written.get(cv2.CAP_PROP_FRAME_COUNT)))
        if kind is None and count < self._count:
            raise Stop(
                f"cannot write {self._path}: {count} of {self._count} frames are in it; "
                "is the disk full?"
            )
