"""The analysis in child processes: hostile bytes can neither end nor hang the daemon.

    daemon                                child: python -m worker.analysis.child
    Analysts.analyze(content)  --socket->  Pipeline.analyze(content)
                               <-socket--  Analysis, or why the image is lost

A child analyses one image, and one more may wait in its line, so that it never waits for the
daemon. What ends or hangs it is known to be the first one's fault; the second one is handed to the
next child. Images are sent as a line with their length and then their bytes. Answers are lines of
JSON, since nobody should unpickle what comes from a process that reads hostile bytes.

A child holds no token and no open connection, and ends with its daemon, however that ends: its
socket is then closed. Nothing is waited for without a limit.
"""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from threading import Condition, Lock
from typing import TYPE_CHECKING, Self

from worker.errors import ImageLost, NoAnalyst, UsageError
from worker.files import PROJECT
from worker.record import Analysis, Box, Face

if TYPE_CHECKING:
    from worker.config import Config

TRIES = 2  # of an image that ends or hangs its child
LINE = 2  # images that a child has: the one in hand, and the next
LOADING = 120.0  # seconds at most that a child may need before its first image
LONGEST = 120.0  # seconds at most for one image
LONGEST_ANSWER = 100_000_000  # bytes
SECRETS = ("WORKER_", "CELERY_")  # what begins so is kept from the children's environment


class Analysts:
    """`[worker] parallel` child processes; a context manager. Safe to use from several threads.

    The first child is started at once, and loads while the first image is pulled; the others when
    they are needed. ``longest``: seconds for one image; then its child is taken for hung.
    """

    def __init__(self, config: "Config", *, longest: float = LONGEST) -> None:
        settings = {
            "classification": vars(config.classification),
            "detection": vars(config.detection),
            "server": {"max_image_pixels": config.server.max_image_pixels},
        }
        text = json.dumps(settings, default=str)
        self._room = Condition()
        self._lines = [_Line(text, longest) for _ in range(config.worker.parallel)]
        with suppress(NoAnalyst):  # it is tried again for the first image
            self._lines[0].child = _Child(text)

    def analyze(self, content: bytes) -> Analysis:
        """As `Pipeline.analyze`; waits while all children are busy.

        Raises ImageLost, also for an image that ended TRIES children; UsageError if the weights
        cannot be used; NoAnalyst if no child can be started at present.
        """
        with self._room:
            self._room.wait_for(lambda: any(each.images < LINE for each in self._lines))
            line = min(self._lines, key=lambda each: each.images)
            line.images += 1
        try:
            return line.analyze(content)
        finally:
            with self._room:
                line.images -= 1
                self._room.notify()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the children, which must have nothing in hand."""
        for line in self._lines:
            if line.child:
                line.child.end()


class _Line:
    """The images before one child; the child is started when it is needed, and when it has ended.

    ``images``: how many are in it.
    """

    def __init__(self, settings: str, longest: float) -> None:
        self.child: _Child | None = None
        self.images = 0
        self._settings = settings
        self._longest = longest
        self._second, self._first = Lock(), Lock()

    def analyze(self, content: bytes) -> Analysis:
        """As `Analysts.analyze`."""
        endings: list[str] = []
        with ExitStack() as turn:
            with self._second:  # and so nobody else hands an image over
                child = self.child if self.child and self.child.takes(content) else None
                turn.enter_context(self._first)  # before another is second: answers come in order
                if child is None or child is not self.child:
                    child = self._hand_over(content)
            while True:
                child.load()
                try:
                    return child.answer(self._longest)
                except _Ended as ending:
                    self.child = None
                    endings.append(str(ending))
                if len(endings) == TRIES:
                    ends = ", ".join(endings)
                    raise ImageLost("crashed", f"its analysis ended {TRIES} times: {ends}")
                child = self._hand_over(content)

    def _hand_over(self, content: bytes) -> "_Child":
        """Give the image to the child, or to a new one if that has ended. Raises NoAnalyst."""
        if self.child is None or not self.child.takes(content):
            child = _Child(self._settings)
            child.takes(content)
            self.child = child  # only now may a second image come behind this one
        return self.child


class _Ended(Exception):
    """Raised when a child has ended, or had to be ended; its text says how."""


class _Child:
    """One process. It is started here, and then loads. Raises NoAnalyst if that is impossible."""

    def __init__(self, settings: str) -> None:
        try:
            self._channel, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - our own program
                    [sys.executable, "-P", "-W", "ignore", "-m", "worker.analysis.child", settings],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the daemon alone
                    env=_environment(),
                )
        except OSError as error:
            raise NoAnalyst(f"no process can be started for the analysis: {error}") from error
        self._channel.settimeout(LOADING)
        self._answers = self._channel.makefile("rb")
        self._loaded = False

    def takes(self, content: bytes) -> bool:
        """Send it an image, perhaps while it has another one in hand. False: it has ended."""
        try:
            self._channel.sendall(b"%d\n" % len(content))
            self._channel.sendall(content)
        except OSError:
            self.end()
            return False
        return True

    def load(self) -> None:
        """Wait until it has loaded. Raises UsageError if it cannot, NoAnalyst if it ends."""
        if self._loaded:
            return
        try:
            self.answer(LOADING)
        except _Ended as ending:
            raise NoAnalyst(f"the analysis ended while it was loading: {ending}") from ending
        except UsageError:
            self.end()
            raise
        self._loaded = True

    def answer(self, limit: float) -> Analysis:
        """What it found in the image that is first, within ``limit`` seconds; once it has loaded,
        that there is nothing yet. Raises _Ended, or what it says instead: ImageLost, UsageError.
        """
        try:
            self._channel.settimeout(limit)
            answer = json.loads(self._answers.readline(LONGEST_ANSWER))
            if "lost" in answer:
                raise ImageLost(*answer["lost"])
            if "usage" in answer:
                raise UsageError(answer["usage"])
            faces = [Face(**face | {"box": Box(**face["box"])}) for face in answer["faces"]]
            return Analysis(**answer | {"faces": tuple(faces)})
        except TimeoutError:
            self.end()
            raise _Ended(f"by its limit of {limit:g} s") from None
        except (
            OSError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
        ):  # it ended, or speaks nonsense
            raise _Ended(self.end()) from None

    def end(self) -> str:
        """End the process; how it ended, if it had done so by itself."""
        self._process.kill()
        code = self._process.wait()
        self._answers.close()
        self._channel.close()
        return f"by signal {-code}" if code < 0 else f"with code {code}"


def _environment() -> dict[str, str]:
    """Of a child: without secrets, and with the place of this package."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SECRETS)}
    paths = [str(PROJECT), os.environ.get("PYTHONPATH")]
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
