"""`live`: a camera or video in real time, with its faces, in a window, a file or a page."""

import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Condition
from typing import TYPE_CHECKING, Generic, TypeVar

import cv2
import numpy as np

from worker.analysis.cropping import Picture
from worker.errors import ImageLost, Stop, UsageError
from worker.record import Face
from worker.viewing.drawing import draw, write
from worker.viewing.follower import FindFaces, Follower
from worker.viewing.video import Video, VideoFile
from worker.web import WebServer, guard

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

KEY_STOPS = (27, ord("q"))  # Esc
TITLE = "emotion worker (q: quit)"
MOST_REQUESTS = 40  # at once; each viewer of a page is one
POLICY = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'"
PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>emotion worker: live</title><link rel="icon" href="data:,">
<style>
body { margin: 0; background: #222; }
img { display: block; width: 100vw; height: 100vh; height: 100dvh; object-fit: contain; }
</style>
<img src="stream" alt="the live picture, faces and their emotions drawn in">
"""

T = TypeVar("T")
Show = Callable[[Picture], bool]  # shows a frame; False: the viewer has seen enough


def open_source(source: str, max_pixels: int) -> Video:
    """A camera's number, a file, or an address with ``://``. Raises Stop when it does not open."""
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
    *,
    hurry: bool,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Generator[tuple[Picture, tuple[Face, ...]], None, None]:
    """Give each frame with its faces drawn in, and these, when it is due.

    A file plays at its own speed, leaving out frames when the machine is too slow; with ``hurry``
    as fast as it goes, each frame of it. Of a camera always the newest frame comes. ``clock`` and
    ``sleep``: in seconds. Raises Stop when a file cannot be read to its end, or a camera ends.
    """
    endless = video.length is None
    begun, times = clock(), deque[float](maxlen=30)
    frames = newest(video.frames()) if endless and not hurry else video.frames()
    with closing(frames), Follower(find_faces) as follower:
        try:
            for seconds, picture in frames:
                if not (hurry or endless):
                    early = begun + seconds - clock()
                    if early < -0.1 and times:
                        continue
                    sleep(max(0.0, early))
                gray = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
                faces = follower.step(gray)
                draw(picture, faces, threshold)
                times.append(clock())
                rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
                write(picture, [f"{rate:.0f} frames/s"], 0, 0, 0.5)
                yield picture, faces
        except ImageLost as lost:
            raise Stop(f"the video: {lost}") from lost
    if endless:
        raise Stop("the source gives no more frames")


class Tally:
    """What was shown, for the line at the end. ``clock``: in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._begun = clock, clock()
        self._frames = 0
        self._emotions: Counter[str] = Counter()

    def add(self, faces: tuple[Face, ...]) -> None:
        """Count one frame with these faces."""
        self._frames += 1
        self._emotions.update(max(f.probabilities, key=f.probabilities.__getitem__) for f in faces)

    def text(self) -> str:
        """How many frames, how many a second, and the surest emotion of the faces on them."""
        rate = self._frames / max(self._clock() - self._begun, 1e-9)
        total = self._emotions.total()
        shares = [f"{name} {n / total:.0%}" for name, n in self._emotions.most_common()]
        faces = f"faces: {', '.join(shares)}" if shares else "no face"
        return f"{self._frames} frames, {rate:.1f} a second; {faces}"


class Latest(Generic[T]):
    """The newest of what one thread puts in, for any number of others that cannot keep up."""

    def __init__(self) -> None:
        self._news, self._ended = Condition(), False
        self._number, self._newest = 0, deque[T](maxlen=1)

    def put(self, value: T) -> None:
        with self._news:
            self._number += 1
            self._newest.append(value)
            self._news.notify_all()

    def end(self) -> None:
        """Nothing more will come."""
        with self._news:
            self._ended = True
            self._news.notify_all()

    def __iter__(self) -> Iterator[T]:
        """What is newest, each once, until the end; waits for it."""
        seen = 0
        while True:
            with self._news:
                while self._number == seen:
                    if self._ended:
                        return
                    self._news.wait()
                seen, value = self._number, self._newest[0]
            yield value


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
def show_in_window() -> Iterator[Show]:
    """A window, closed by q, Esc or its button. Raises UsageError when there can be none."""
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
def show_in_file(path: Path, rate: float) -> Iterator[Show]:
    """An MP4 file of ``rate`` frames a second. Raises as VideoFile does."""
    with VideoFile(path, rate) as output:

        def show(picture: Picture) -> bool:
            output.write(picture)
            return True

        yield show


@contextmanager
def show_on_page(host: str, port: int) -> Iterator[Show]:
    """A page that shows the newest frame to each browser (MJPEG); prints its address.

    Raises UsageError when it cannot listen there.
    """
    latest = Latest[bytes]()

    def page(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        body: Iterable[bytes]
        status, kind, body = "200 OK", "text/html; charset=utf-8", [PAGE.encode()]
        match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
            case "GET", "/":
                pass
            case "GET", "/stream":
                kind, body = "multipart/x-mixed-replace; boundary=frame", parts()
            case _:
                status, kind, body = "404 Not Found", "text/plain", [b"see /\n"]
        start_response(status, [("Content-Type", kind)])
        return body

    def parts() -> Iterator[bytes]:
        for jpeg in latest:
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            yield head.encode() + jpeg + b"\r\n"

    def show(picture: Picture) -> bool:
        encoded, jpeg = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, 80))
        assert encoded
        latest.put(jpeg.tobytes())
        return True

    guarded = guard(page, POLICY, host=host)
    with WebServer(guarded, host=host, port=port, threads=MOST_REQUESTS) as server:
        print(f"live on {server.url}; stop with Ctrl-C", flush=True)
        try:
            yield show
        finally:
            latest.end()
