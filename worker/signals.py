"""SIGTERM and Ctrl-C: the first asks to stop, the second ends the process at once."""

import os
import signal
import time
from queue import Empty, SimpleQueue
from types import FrameType


class Alarm:
    """What the main thread waits on: a tick of the schedule, or the wish to stop.

    A SimpleQueue and not an Event: its put() may be called from a signal handler that interrupts
    the very get() it wakes, where Event.set() can deadlock.
    """

    def __init__(self) -> None:
        self.stop_requested = False
        self._queue: SimpleQueue[str] = SimpleQueue()

    def install(self) -> None:
        """Take over SIGINT and SIGTERM. To be called first, before the slow imports: the first
        process of a container ignores signals that it has no handler for."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def stop(self) -> None:
        """Ask the loop to end after the image in hand."""
        self.stop_requested = True
        self._queue.put("stop")

    def tick(self) -> None:
        """Say that it is time to poll."""
        if self._queue.empty():  # nobody waits during a long drain: do not pile them up
            self._queue.put("tick")

    def wait(self, seconds: float, *, until_tick: bool = False) -> None:
        """Return after ``seconds`` of monotonic time, or earlier on a stop, or on a tick from now
        on where ``until_tick``."""
        deadline = time.monotonic() + seconds
        while not self._queue.empty():
            self._queue.get()
        while not self.stop_requested and (left := deadline - time.monotonic()) > 0:
            try:
                kind = self._queue.get(timeout=left)
            except Empty:
                return
            if until_tick and kind == "tick":
                return

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stop_requested:
            os._exit(128 + number)  # sys.exit would wait for the very thing that hangs
        self.stop()
