"""The analysis in processes of its own, which share no interpreter lock with network and file.

    daemon                              analyst: python -m worker.analysis.analyst
    Analysts.analyze(content)  --stdin-->  Pipeline.analyze(content)
                              <--stdout--  Analysis, or ImageLost

What ends an analyst, be it a decoder's crash or the lack of memory, is known to be that image's
fault, and ends nothing else. An analyst ends with its daemon, however that ends: nobody holds the
other end of its standard input any more.
"""

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from concurrent.futures import Future, wait
from contextlib import suppress
from queue import SimpleQueue
from threading import Event, Lock, Semaphore, Thread
from types import ModuleType
from typing import Any, Self

from worker.config import Config, ServerConfig
from worker.errors import ImageLost, Stop, UsageError, package_missing
from worker.files import PROJECT
from worker.record import Analysis

IN_LINE = 2  # images an analyst has: when one is done, it need not wait for the next
LONGEST = 120.0  # seconds for an image, the one before it and the loading included; then it hangs
TRIES = 2  # with an image that ends its analyst, or makes it hang


class _Ended(Exception):
    """Raised when an analyst ended over this image; its text says how."""


class _EndedBefore(Exception):
    """Raised when an analyst ended over the image before this one."""


class Analysts:
    """`[worker] parallel` processes, each of which analyses one image at a time; a context manager.

    The first one is started at once, and loads torch, OpenCV and the networks while the first image
    is pulled; the others when they are needed. Safe to use from several threads. ``places``: how
    many images they take together, those that wait for their turn included.
    """

    def __init__(self, config: Config) -> None:
        # Not the rest: a token is nobody's business there.
        needed = Config(
            detection=config.detection,
            classification=config.classification,
            server=ServerConfig(max_image_pixels=config.server.max_image_pixels),
        )
        self._all = [_Analyst(needed) for _ in range(config.worker.parallel)]
        self.places = IN_LINE * len(self._all)
        self._free = Semaphore(self.places)
        self._all[0].start()

    def analyze(self, content: bytes) -> Analysis:
        """As `Pipeline.analyze`. Also raises UsageError or Stop where no analyst can be started,
        and ImageLost for an image that ended TRIES of them."""
        endings: list[str] = []
        with self._free:
            while len(endings) < TRIES:
                analyst = min(self._all, key=len)
                future = analyst.submit(content)
                try:
                    if not wait([future], LONGEST).done:
                        analyst.kill()
                    return future.result()
                except _EndedBefore:
                    continue
                except _Ended as ending:
                    endings.append(str(ending))
        raise ImageLost("crashed", f"its analysis ended {TRIES} times: {', '.join(endings)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for analyst in self._all:
            analyst.stop()


class _Analyst:
    """One process, started anew after it ended. Its length is that of the line before it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lock = Lock()
        self._line: deque[Future[Analysis]] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: Thread | None = None
        self._loaded = Event()

    def __len__(self) -> int:
        return len(self._line)

    def start(self) -> None:
        paths = [str(PROJECT), os.environ.get("PYTHONPATH")]
        # In a session of its own: Ctrl-C is for the daemon, which then finishes what is in hand.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "worker.analysis.analyst"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        self._loaded.clear()
        self._send(self._config)
        self._listener = Thread(target=self._listen, args=(self._process,), daemon=True)
        self._listener.start()

    def submit(self, content: bytes) -> Future[Analysis]:
        """The future also raises _Ended, _EndedBefore, and what keeps the process from starting."""
        with self._lock:
            if self._process is None:
                self.start()
            future: Future[Analysis] = Future()
            self._line.append(future)
            self._send(content)
        return future

    def _send(self, what: Config | bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(OSError):  # it ended: the listener says so
            pickle.dump(what, self._process.stdin)
            self._process.stdin.flush()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Hand out the answers, in a thread of its own, until the process ends."""
        assert process.stdout is not None
        problem: UsageError | None = None
        with suppress(EOFError, pickle.UnpicklingError):
            problem = pickle.load(process.stdout)  # noqa: S301 - our own process wrote it
            while problem is None:
                self._loaded.set()
                answer = pickle.load(process.stdout)  # noqa: S301
                if isinstance(answer, ImageLost):
                    self._line.popleft().set_exception(answer)
                else:
                    self._line.popleft().set_result(answer)
        code = process.wait()
        ending = f"by signal {-code}" if code < 0 else f"with code {code}"
        with self._lock:
            self._process = None
            for number, future in enumerate(self._line):
                if not self._loaded.is_set():
                    why = problem or Stop(f"the analysis cannot be started: it ended {ending}")
                    future.set_exception(why)
                else:
                    future.set_exception(_EndedBefore() if number else _Ended(ending))
            self._line.clear()

    def kill(self) -> None:
        """End a process that hangs; `_listen` goes on with what that means."""
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def stop(self) -> None:
        """End the process, which must have nothing in hand."""
        process, listener = self._process, self._listener
        if process is None or listener is None:
            return
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        listener.join()


def serve() -> None:
    """What an analyst does until its standard input is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what a library prints must not get among the answers
        tasks: SimpleQueue[Any] = SimpleQueue()
        Thread(target=_read, args=(tasks,), daemon=True).start()

        def answer(what: Analysis | ImageLost | UsageError | None) -> None:
            pickle.dump(what, answers)
            answers.flush()

        # Needed for compiling alone; without it torch is there sooner and takes 18 MB less.
        sys.modules.setdefault("torch._meta_registrations", ModuleType("torch._meta_registrations"))
        try:
            from worker.analysis.pipeline import Pipeline

            pipeline = Pipeline(tasks.get())
        except ModuleNotFoundError as error:
            return answer(package_missing(error))
        except UsageError as error:
            return answer(error)
        answer(None)
        while True:
            try:
                found: Analysis | ImageLost = pipeline.analyze(tasks.get())
            except ImageLost as lost:
                found = lost
            answer(found)


def _read(tasks: SimpleQueue[Any]) -> None:
    """In a thread of its own: so the end of the daemon is noticed in the middle of an analysis."""
    with suppress(EOFError):
        while True:
            tasks.put(pickle.load(sys.stdin.buffer))  # noqa: S301 - the daemon wrote it
    os._exit(0)


if __name__ == "__main__":
    serve()
