"""SIGTERM and Ctrl-C: the first asks to stop, the second ends the process at once. SIGHUP asks to
read the configuration again."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import FrameType

from worker.daemon import systemd

# Seconds. A signal that comes just before the thread falls asleep does not wake it: Python runs its
# handler only afterwards.
LONGEST_SLEEP = 1.0


class Alarm:
    """What the main thread waits on: a tick of the schedule, or the wish to stop or to reload.

    While it waits it feeds systemd's watchdog. ``clock``: monotonic seconds. ``calls``: what wakes
    it; a SimpleQueue and not an Event, because its put() may be called from a signal handler that
    interrupts the very get() it wakes, where Event.set() can deadlock.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        calls: "SimpleQueue[str] | None" = None,
    ) -> None:
        self.stop_requested = False
        self.reload_requested = False
        self._clock = clock
        self._calls = SimpleQueue() if calls is None else calls
        self._longest = min(LONGEST_SLEEP, systemd.watchdog_seconds() / 2)
        self._terminal = False

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
        """Ask the loop to end after the images in hand."""
        self.stop_requested = True
        self._calls.put("stop")

    def reload(self) -> None:
        """Ask the loop to read its configuration again."""
        self.reload_requested = True
        self._calls.put("reload")

    def tick(self) -> None:
        """Say that it is time to poll."""
        if self._calls.empty():  # nobody waits during a long drain: do not pile them up
            self._calls.put("tick")

    def wait(self, seconds: float, *, until_tick: bool = False) -> None:
        """Return after ``seconds`` of monotonic time, or earlier on a stop or the wish to reload;
        with ``until_tick`` also on a tick from now on."""
        deadline = self._clock() + seconds
        while not self._calls.empty():
            self._calls.get()
        while not self.called_away() and (left := deadline - self._clock()) > 0:
            with suppress(Empty):
                call = self._calls.get(timeout=min(left, self._longest))
                if until_tick and call == "tick":
                    return
            systemd.alive()

    def called_away(self) -> bool:
        """Whether somebody wants the loop to stop or to reload."""
        return self.stop_requested or self.reload_requested

    def _on_hangup(self, number: int, frame: FrameType | None) -> None:
        if self._terminal and not os.isatty(0):  # the window was closed: nobody meant to reload
            self._on_signal(number, frame)
        else:
            self.reload()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stop_requested:
            os._exit(128 + number)  # sys.exit would wait for the very thing that hangs
        self.stop()
