"""SIGTERM and Ctrl-C: the first asks to stop, the second ends the process at once. SIGHUP asks to
read the configuration again."""

import math
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import FrameType

# Seconds. A signal that comes just before the thread falls asleep does not wake it: Python runs its
# handler only afterwards.
LONGEST_SLEEP = 1.0


class Alarm:
    """What the main thread waits on: a tick of the schedule, or the wish to stop or to reload.

    ``idle`` is called in every wait, at least each ``idle_every`` seconds.

    A SimpleQueue and not an Event: its put() may be called from a signal handler that interrupts
    the very get() it wakes, where Event.set() can deadlock.
    """

    def __init__(self) -> None:
        self.stop_requested = False
        self.reload_requested = False
        self.idle: Callable[[], None] = lambda: None
        self.idle_every = math.inf
        self._terminal = False
        self._queue: SimpleQueue[str] = SimpleQueue()

    def install(self, *, hangup: bool = False) -> None:
        """Take over SIGINT and SIGTERM, with ``hangup`` also SIGHUP. To be called first, before the
        slow imports: the first process of a container ignores signals that it has no handler
        for."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        if hangup and hasattr(signal, "SIGHUP"):
            self._terminal = os.isatty(0)
            signal.signal(signal.SIGHUP, self._on_hangup)

    def stop(self) -> None:
        """Ask the loop to end after the image in hand."""
        self.stop_requested = True
        self._queue.put("stop")

    def tick(self) -> None:
        """Say that it is time to poll."""
        if self._queue.empty():  # nobody waits during a long drain: do not pile them up
            self._queue.put("tick")

    def wait(self, seconds: float, *, until_tick: bool = False) -> None:
        """Return after ``seconds`` of monotonic time, or earlier on a stop or the wish to reload,
        or on a tick from now on where ``until_tick``."""
        deadline = time.monotonic() + seconds
        while not self._queue.empty():
            self._queue.get()
        while not self.called_away() and (left := deadline - time.monotonic()) > 0:
            with suppress(Empty):
                kind = self._queue.get(timeout=min(left, self.idle_every, LONGEST_SLEEP))
                if until_tick and kind == "tick":
                    return
            self.idle()

    def called_away(self) -> bool:
        """Whether somebody wants the loop to stop or to reload."""
        return self.stop_requested or self.reload_requested

    def _on_hangup(self, number: int, frame: FrameType | None) -> None:
        if self._terminal and not os.isatty(0):  # the window was closed: nobody meant to reload
            self._on_signal(number, frame)
            return
        self.reload_requested = True
        self._queue.put("reload")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stop_requested:
            os._exit(128 + number)  # sys.exit would wait for the very thing that hangs
        self.stop()
