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
from typing import Generic, TypeVar

import cv2
from werkzeug import Request, Response
from werkzeug.exceptions import NotFound

from worker.analysis.cropping import Picture
from worker.errors import UsageError
from worker.record import Face
from worker.viewing.drawing import FOR_PAGES, draw, encode, write
from worker.viewing.follower import FindFaces, follow
from worker.viewing.video import Frame, Video
from worker.web import WebServer, guard

KEY_STOPS = (27, ord("q"))  # Esc
LATE = 0.1  # seconds
TITLE = "emotion worker (q: quit)"
MOST_REQUESTS = 40  # at once; each viewer of a page is one
POLICY = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'"
PAGE = Path(__file__).with_name("templates") / "live.html"
STREAM = "multipart/x-mixed-replace; boundary=frame"

T = TypeVar("T")
Show = Callable[[Picture], bool | None]  # shows a frame; False: the viewer has seen enough


def play(
    video: Video, find_faces: FindFaces, threshold: float, *, hurry: bool
) -> Generator[tuple[Picture, tuple[Face, ...]], None, None]:
    """Give each frame with its faces drawn in, and these, when it is due.

    A file plays at its own speed, leaving out frames when the machine is too slow; with ``hurry``
    as fast as it goes, each frame of it. Of a camera always the newest frame comes. Raises
    ImageLost as `Video.frames` does.
    """
    frames = video.frames()
    if not hurry:
        frames = newest(frames) if video.length is None else on_time(frames)
    times = deque[float](maxlen=30)
    with closing(frames), closing(follow(frames, find_faces)) as followed:
        for picture, faces in followed:
            draw(picture, faces, threshold)
            times.append(time.monotonic())
            rate = (len(times) - 1) / max(times[-1] - times[0], 1e-9)
            write(picture, [f"{rate:.0f} frames/s"], 0, 0, 0.5)
            yield picture, faces


def on_time(
    frames: Iterable[Frame],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Generator[Frame, None, None]:
    """The frames of a file when they are due; without those that come too late, which happens if
    whoever takes them is slow. ``clock`` and ``sleep``: in seconds."""
    begun = None
    for seconds, picture in frames:
        begun = clock() - seconds if begun is None else begun
        early = begun + seconds - clock()
        if early >= -LATE:
            sleep(max(0.0, early))
            yield seconds, picture


def summary(frames: int, seconds: float, emotions: Counter[str]) -> str:
    """The line at the end. ``emotions``: of the faces that were shown, the surest one each."""
    shares = [f"{name} {n / emotions.total():.0%}" for name, n in emotions.most_common()]
    faces = f"faces: {', '.join(shares)}" if shares else "no face"
    return f"{frames} frames, {frames / max(seconds, 1e-9):.1f} a second; {faces}"


class Latest(Generic[T]):
    """The newest of what one thread puts in, for any number of others that cannot keep up."""

    def __init__(self) -> None:
        self._news = Condition()
        self._newest: T | None = None
        self.ended = False

    def put(self, value: T) -> None:
        """Replace what is newest."""
        with self._news:
            self._newest = value
            self._news.notify_all()

    def end(self) -> None:
        """Nothing more will come, or is wanted."""
        with self._news:
            self.ended = True
            self._news.notify_all()

    def __iter__(self) -> Iterator[T]:
        """What is newest, each once, until the end; waits for it."""
        seen = None
        while True:
            with self._news:
                while self._newest is seen and not self.ended:
                    self._news.wait()
                if self._newest is seen or self._newest is None:
                    return
                seen = self._newest
            yield seen


def newest(frames: Iterable[Frame]) -> Generator[Frame, None, None]:
    """Read ahead in a thread and give only the newest: a camera does not wait for us.

    Raises at the end what reading raised.
    """
    latest = Latest[Frame]()

    def read() -> None:
        try:
            for frame in frames:
                latest.put(frame)
                if latest.ended:
                    break
        finally:
            latest.end()

    with ThreadPoolExecutor(1, thread_name_prefix="camera") as thread:
        reading = thread.submit(read)
        try:
            yield from latest
            reading.result()
        finally:
            latest.end()


def open_window() -> Show:
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

    return show


@contextmanager
def show_on_page(host: str, port: int) -> Iterator[Show]:
    """A page that shows the newest frame to each browser (MJPEG); prints its address.

    Raises UsageError when it cannot listen there.
    """
    latest = Latest[bytes]()

    @Request.application
    def page(request: Request) -> Response:
        if request.path == "/stream":
            return Response(map(_part, latest), content_type=STREAM)
        if request.path == "/":
            return Response(PAGE.read_bytes(), content_type="text/html; charset=utf-8")
        raise NotFound

    def show(picture: Picture) -> None:
        latest.put(encode(picture, ".jpg", FOR_PAGES))

    guarded = guard(page, POLICY, host=host)
    with WebServer(guarded, host=host, port=port, threads=MOST_REQUESTS) as server:
        print(f"live on {server.url}; stop with Ctrl-C", flush=True)
        try:
            yield show
        finally:
            latest.end()


def _part(jpeg: bytes) -> bytes:
    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
    return head.encode() + jpeg + b"\r\n"
