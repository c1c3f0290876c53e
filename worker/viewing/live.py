"""`live`: a camera or video in real time, with what its faces show, in a window, a file or a page.

A full search takes longer than a frame lasts. So every SEARCH_EVERY-th frame is searched and
classified in a thread of its own, and between these the boxes follow their faces, each by looking
for the same pixels nearby. A face that is not found again has no box until the next search.
"""

import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from flask import Flask, Response

from worker.analysis.cropping import Picture
from worker.errors import ImageLost, Stop, UsageError
from worker.record import Box, Face
from worker.viewing.drawing import draw, write
from worker.viewing.latest import Latest
from worker.viewing.video import Video, VideoFile
from worker.web import WebServer, guard

SEARCH_EVERY = 5  # frames
SIDE = 32  # pixels: a followed face is shrunk to this
REACH = 0.4  # of a face's side: how far it may move from one frame to the next
ALIKE = 0.6  # correlation, -1..1, from which on it is the same face
KEY_STOPS = (27, ord("q"))  # Esc
MOST_REQUESTS = 40  # at once; each viewer of a page is one
TITLE = "emotion worker (q: quit)"

FindFaces = Callable[[Picture], tuple[Face, ...]]
Show = Callable[[Picture], bool]  # shows a frame; False: the viewer has seen enough


@dataclass(frozen=True)
class _Track:
    """A face and how its pixels looked when it was found."""

    face: Face
    template: Picture


class Follower:
    """Gives the faces of each frame in turn; a context manager. ``find_faces`` is called in another
    thread, one frame at a time, and its result is taken up SEARCH_EVERY frames later: what comes
    out does not depend on how fast the machine is.
    """

    def __init__(self, find_faces: FindFaces) -> None:
        self._find_faces = find_faces
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="faces")
        self._search: Future[tuple[Face, ...]] | None = None
        self._since: list[Picture] = []  # the frame that is searched, and those after it
        self._tracks: list[_Track] = []

    def step(self, gray: Picture) -> tuple[Face, ...]:
        """The faces of the next frame, uint8 ``(height, width)``. Raises what find_faces raises."""
        self._since.append(gray)
        if self._search is None or len(self._since) > SEARCH_EVERY:
            first = self._search is None
            if self._search is not None:
                searched, *after = self._since
                self._tracks = [_track(searched, face) for face in self._search.result()]
                for each in after:
                    self._follow(each)
            self._search = self._thread.submit(self._find_faces, gray)
            self._since = [gray]
            if first:  # nothing to show yet: wait for it
                self._tracks = [_track(gray, face) for face in self._search.result()]
        else:
            self._follow(gray)
        return tuple(track.face for track in self._tracks)

    def _follow(self, gray: Picture) -> None:
        moved = [_find_again(gray, track) for track in self._tracks]
        self._tracks = [track for track in moved if track is not None]

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()


def _track(gray: Picture, face: Face) -> _Track:
    box = face.box
    return _Track(face, _shrunk(gray[box.y1 : box.y2, box.x1 : box.x2], SIDE, SIDE))


def _find_again(gray: Picture, track: _Track) -> _Track | None:
    """The track moved to where its pixels are now; None where they are not found nearby."""
    box = track.face.box
    width, height = box.x2 - box.x1, box.y2 - box.y1
    left, top = max(0, box.x1 - round(REACH * width)), max(0, box.y1 - round(REACH * height))
    around = gray[top : box.y2 + round(REACH * height), left : box.x2 + round(REACH * width)]
    across, down = width / SIDE, height / SIDE  # pixels of the frame in one of the shrunk one
    small = _shrunk(around, round(around.shape[1] / across), round(around.shape[0] / down))
    if small.shape[0] < SIDE or small.shape[1] < SIDE:
        return None
    _, alike, _, (x, y) = cv2.minMaxLoc(
        cv2.matchTemplate(small, track.template, cv2.TM_CCOEFF_NORMED)
    )
    if not alike >= ALIKE:
        return None
    x1, y1 = left + round(x * across), top + round(y * down)
    return replace(track, face=replace(track.face, box=Box(x1, y1, x1 + width, y1 + height)))


def _shrunk(gray: Picture, width: int, height: int) -> Picture:
    resized = cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)
    return resized.astype(np.uint8, copy=False)


def open_source(source: str, max_pixels: int) -> Video:
    """A camera's number, a file, or an address with ``://``. Raises Stop where it does not open."""
    place: Path | str | int = Path(source)
    if source.isdecimal():
        place = int(source)
    elif "://" in source:
        place = source
    elif not Path(source).is_file():
        raise UsageError(f"--source {source}: there is no such file (a camera has a number: 0)")
    try:
        return Video(place, max_pixels)
    except ImageLost as lost:
        raise Stop(f"--source {source}: {lost}") from lost


def play(
    video: Video,
    find_faces: FindFaces,
    threshold: float,
    show: Show,
    stop: Callable[[], bool],
    *,
    hurry: bool,
    watch: Callable[[tuple[Face, ...]], None] = lambda _: None,
) -> tuple[int, float]:
    """Show each frame with its faces until the video ends, ``show`` or ``stop`` says so.

    A file plays at its own speed, leaving out frames where the machine is too slow; with ``hurry``
    as fast as it goes, each frame of it. Of a camera always the newest frame is shown. ``watch`` is
    given the faces of each frame.

    Returns how many frames were shown, and how many a second. Raises Stop where a file cannot be
    read to its end, or a camera ends.
    """
    endless = video.length is None
    frames = newest(video.frames()) if endless and not hurry else video.frames()
    begun = time.monotonic()
    times: deque[float] = deque(maxlen=30)
    shown = 0
    with Follower(find_faces) as follower:
        try:
            for seconds, picture in frames:
                if stop():
                    break
                if not (hurry or endless):
                    early = begun + seconds - time.monotonic()
                    if early < -0.1 and shown:
                        continue
                    time.sleep(max(0.0, early))
                gray = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
                faces = follower.step(gray)
                watch(faces)
                draw(picture, faces, threshold)
                times.append(time.monotonic())
                rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
                write(picture, [f"{rate:.0f} frames/s"], 0, 0, 0.5)
                shown += 1
                if not show(picture):
                    break
            else:
                if endless:
                    raise Stop(f"the source gives no more frames (after {shown})")
        except ImageLost as lost:
            raise Stop(f"the video: {lost}") from lost
        finally:
            frames.close()
    return shown, shown / max(time.monotonic() - begun, 1e-9)


def newest(frames: Iterator[tuple[float, Picture]]) -> Generator[tuple[float, Picture], None, None]:
    """Read ahead in a thread and give only the newest: a camera does not wait for us.

    Raises at the end what reading raised.
    """
    latest, wanted = Latest[tuple[float, Picture]](), True

    def read() -> None:
        try:
            for frame in frames:
                latest.put(frame)
                if not wanted:
                    break
        finally:
            latest.end()

    with ThreadPoolExecutor(1, thread_name_prefix="camera") as thread:
        reading = thread.submit(read)
        try:
            yield from latest
            reading.result()
        finally:
            wanted = False


@contextmanager
def window() -> Iterator[Show]:
    """A window, closed by q, Esc or its button. Raises UsageError where there can be none."""
    # Without a screen, Qt ends the process that asks for a window: let another one ask first.
    probe = "import cv2; cv2.namedWindow('probe'); cv2.waitKey(1)"
    command = [sys.executable, "-c", probe]
    tried = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - our own words
    if tried.returncode:
        raise UsageError(
            "no window can be opened here (no screen, or an OpenCV without windows): "
            "use --output out.mp4 or --serve 127.0.0.1:8080"
        )

    # Without OpenCV's own buttons.
    cv2.namedWindow(TITLE, cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)

    def show(picture: Picture) -> bool:
        cv2.imshow(TITLE, picture)
        key = cv2.waitKey(1) & 0xFF
        return key not in KEY_STOPS and cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) >= 1

    try:
        yield show
    finally:
        cv2.destroyAllWindows()


@contextmanager
def file(path: Path, rate: float) -> Iterator[Show]:
    """An MP4 file of ``rate`` frames a second. Raises as VideoFile does."""
    with VideoFile(path, rate) as output:

        def show(picture: Picture) -> bool:
            output.write(picture)
            return True

        yield show


@contextmanager
def page(host: str, port: int) -> Iterator[Show]:
    """A page that shows the newest frame to each browser (MJPEG); prints its address.

    Raises UsageError where it cannot listen there.
    """
    latest = Latest[bytes]()
    app = Flask(__name__, static_folder=None)
    policy = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'"

    @app.get("/")
    def show_page() -> str:
        return (
            "<!DOCTYPE html><html lang=en><title>live</title><link rel=icon href='data:,'>"
            "<body style='margin:0;background:#222'>"
            "<img src=stream alt='the live picture' style='max-width:100%;max-height:100vh'>"
        )

    @app.get("/stream")
    def stream() -> Response:
        return Response(parts(), mimetype="multipart/x-mixed-replace; boundary=frame")

    def parts() -> Iterator[bytes]:
        for jpeg in latest:
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            yield head.encode() + jpeg + b"\r\n"

    def show(picture: Picture) -> bool:
        encoded, jpeg = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, 80))
        assert encoded
        latest.put(jpeg.tobytes())
        return True

    guarded = guard(app, policy, host=host)
    with WebServer(guarded, host=host, port=port, threads=MOST_REQUESTS) as server:
        print(f"live on {server.url}; stop with Ctrl-C", flush=True)
        try:
            yield show
        finally:
            latest.end()
