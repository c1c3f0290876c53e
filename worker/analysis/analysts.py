"""The analysis in child processes: hostile bytes can neither end nor hang the daemon.

    daemon                                child: python -m worker.analysis.child
    Analysts.analyze(content)  --socket->  Pipeline.analyze(content)
                               <-socket--  Analysis, or why the image is lost

A child has one image at a time, so what ends or hangs it is known to be that image's fault. It
holds no token and no open connection, and ends with its daemon, however that ends: its socket is
then closed. Nothing is waited for without a limit.
"""

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from queue import LifoQueue
from typing import TYPE_CHECKING, Any, Self

from worker.analysis.messages import receive, send
from worker.errors import ImageLost, NoAnalyst, UsageError
from worker.files import PROJECT
from worker.record import Analysis, Box, Face

if TYPE_CHECKING:
    from worker.config import Config

TRIES = 2  # of an image that ends or hangs its child
LOADING = 120.0  # seconds at most that a child may need before its first image
LONGEST = 120.0  # seconds at most for one image
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
        told = json.dumps(settings, default=str).encode()
        self._children = [_Child(told, longest) for _ in range(config.worker.parallel)]
        self._idle: LifoQueue[_Child] = LifoQueue()
        for child in reversed(self._children):
            self._idle.put(child)
        with suppress(NoAnalyst):  # it is tried again for the first image
            self._children[0].start()

    def analyze(self, content: bytes) -> Analysis:
        """As `Pipeline.analyze`; waits while all children are busy.

        Raises ImageLost, also for an image that ended TRIES children; UsageError if the weights
        cannot be used; NoAnalyst if no child can be started at present.
        """
        child = self._idle.get()
        try:
            return child.analyze(content)
        finally:
            self._idle.put(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the children, which must have nothing in hand."""
        for child in self._children:
            child.end()


class _Ended(Exception):
    """Raised when a child has ended, or had to be ended; its text says how."""


class _Child:
    """One process, started when it is needed. For one thread at a time."""

    def __init__(self, settings: bytes, longest: float) -> None:
        self._settings = settings
        self._longest = longest
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._loaded = False

    def start(self) -> None:
        """Start the process, which then loads. Raises NoAnalyst."""
        self.end()
        try:
            self._channel, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-W", "ignore", "-m", "worker.analysis.child"],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the daemon alone
                    env=_environment(),
                )
            send(self._channel, self._settings)
        except OSError as error:
            self.end()
            raise NoAnalyst(f"no process can be started for the analysis: {error}") from error

    def analyze(self, content: bytes) -> Analysis:
        """As `Analysts.analyze`."""
        endings: list[str] = []
        while len(endings) < TRIES:
            self._load()
            try:
                return _analysis(self._ask(content, self._longest))
            except _Ended as ending:
                endings.append(str(ending))
            except (KeyError, TypeError):
                endings.append(f"with nonsense, {self.end()}")
        raise ImageLost("crashed", f"its analysis ended {TRIES} times: {', '.join(endings)}")

    def _load(self) -> None:
        """Wait until the process has loaded; start it, if there is none."""
        if self._process is None or self._process.poll() is not None:
            self.start()
        if not self._loaded:
            try:
                answer = self._ask(None, LOADING)
            except _Ended as ending:
                raise NoAnalyst(f"the analysis ended while it was loading: {ending}") from ending
            if "usage" in answer:
                self.end()
                raise UsageError(answer["usage"])
            self._loaded = True

    def _ask(self, content: bytes | None, limit: float) -> dict[str, Any]:
        """The answer to an image, or to the settings (None). Raises _Ended."""
        assert self._channel is not None
        self._channel.settimeout(limit)
        try:
            if content is not None:
                send(self._channel, content)
            answer = json.loads(receive(self._channel))
        except TimeoutError:
            self.end()
            raise _Ended(f"by its limit of {limit:g} s") from None
        except (OSError, EOFError, ValueError):
            raise _Ended(self.end()) from None
        return answer if isinstance(answer, dict) else {}

    def end(self) -> str:
        """End the process, if there is one; how it ended, if it had done so by itself."""
        self._loaded = False
        if self._channel is not None:
            self._channel.close()
        if self._process is None:
            return ""
        self._process.kill()
        code = self._process.wait()
        self._process = None
        return f"by signal {-code}" if code < 0 else f"with code {code}"


def _analysis(answer: dict[str, Any]) -> Analysis:
    """What a child found. Raises ImageLost, if it answered so."""
    if "lost" in answer:
        raise ImageLost(*answer["lost"])
    found = answer["analysis"]
    faces = tuple(
        Face(Box(**face["box"]), face["probabilities"], face["confidence"])
        for face in found["faces"]
    )
    return Analysis(found["width"], found["height"], faces, found["elapsed_ms"])


def _environment() -> dict[str, str]:
    """Of a child: without secrets, and with the place of this package."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SECRETS)}
    paths = [str(PROJECT), os.environ.get("PYTHONPATH")]
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
