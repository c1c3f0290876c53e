"""What the main thread waits on, and what it hears there: signals and the ticks of the schedule.

The first SIGTERM or Ctrl-C asks to stop, the second ends the process at once; SIGHUP asks to read
the configuration again.
"""

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

# Seconds. A signal that comes just before the thread falls asleep does not wake it: Python runs its
# handler only afterwards. So often systemd's watchdog is fed, too.
LONGEST_SLEEP = 1.0


@dataclass
class Alarm:
    """The waits of the main thread, which a signal or a tick ends. They feed systemd's watchdog.

    ``clock``: monotonic seconds. ``calls``: what wakes it; a SimpleQueue and not an Event, because
    its put() may be called from a signal handler that interrupts the very get() it wakes; there
    Event.set() can deadlock.
    """

    clock: Callable[[], float] = time.monotonic
    calls: "SimpleQueue[None]" = field(default_factory=SimpleQueue)
    stop_requested: bool = False
    reload_requested: bool = False
    _schedule: Any = None

    def install(self, *, hangup: bool = False) -> None:
        """Take over SIGINT and SIGTERM, with ``hangup`` also SIGHUP. In a terminal that one stops,
        since it says that the window was closed.

        To be called first, before the slow imports: the first process of a container ignores
        signals that it has no handler for.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        if hangup and hasattr(signal, "SIGHUP"):
            in_terminal = os.isatty(0)
            signal.signal(signal.SIGHUP, self._on_signal if in_terminal else self._on_hangup)

    def stop(self) -> None:
        """Ask the loop to end after the images in hand."""
        self.stop_requested = True
        self.tick()

    def reload(self) -> None:
        """Ask the loop to read its configuration again."""
        self.reload_requested = True
        self.tick()

    def tick(self) -> None:
        """End the wait that is under way."""
        self.calls.put(None)

    def called_away(self) -> bool:
        """Whether somebody wants the loop to stop or to reload."""
        return self.stop_requested or self.reload_requested

    def wait(self, seconds: float) -> None:
        """Return after ``seconds`` of monotonic time, or earlier on a tick from now on, on a stop
        or the wish to reload."""
        deadline = self.clock() + seconds
        while not self.calls.empty():
            self.calls.get()
        while not self.called_away() and (left := deadline - self.clock()) > 0:
            with suppress(Empty):
                self.calls.get(timeout=min(left, LONGEST_SLEEP))
                return
            notify("WATCHDOG=1")

    def wait_for_tick(self, interval: float) -> None:
        """Wait as `wait` does, for a tick that APScheduler gives ``interval`` seconds from now.

        APScheduler is the metronome only, since its jobs swallow exits. It follows the wall clock:
        if that is set back and no tick comes, the wait is twice as long.
        """
        if self._schedule is None:
            # With the first wait: the first poll is not to wait until APScheduler is loaded.
            from apscheduler.schedulers.background import BackgroundScheduler

            self._schedule = BackgroundScheduler(timezone=UTC)
            self._schedule.start()
        # Once, not at an interval: a clock set forward would bring all the ticks in between.
        at = datetime.now(UTC) + timedelta(seconds=interval)
        self._schedule.add_job(self.tick, "date", run_date=at, misfire_grace_time=None)
        self.wait(2 * interval)
        self._schedule.remove_all_jobs()

    def close(self) -> None:
        """End the schedule, if there was need of one; nothing waits for a tick any more."""
        if self._schedule is not None:
            self._schedule.shutdown(wait=False)

    def _on_hangup(self, number: int, frame: FrameType | None) -> None:
        self.reload()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stop_requested:
            os._exit(128 + number)  # sys.exit would wait for the very thing that hangs
        self.stop()


def notify(state: str) -> None:
    """Tell systemd (sd_notify) ``state``, such as READY=1; if it is not there, nothing happens."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(1)  # a manager that does not read must not hold up the work
        sender.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)
