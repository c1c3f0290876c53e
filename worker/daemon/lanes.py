"""Several polls at once, so that the CPU never waits for the server, nor for the disk.

    lane 1   pull -> analyse -> append ----> pull -> analyse -> append
    lane 2           pull ----> (its turn) analyse -> append -> pull ...
    lane 3                      pull -------------> (its turn) analyse ...

Each lane does one image after the other, as a worker with a single one would; the bound on what is
in hand is their number. `[worker] parallel` of them analyse at the same time, the others have
`[worker] prefetch` images pulled ahead. Appends that come together share one fsync (`database.py`),
and results are posted beside all that (`poster.py`).
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from worker.daemon.poller import Found
from worker.errors import RetryLater

Step = Callable[[Callable[[], None]], Found]


class Lanes:
    """``count`` threads that poll. ``step``: one poll, as `Poller.step`. ``polled``: told what each
    found, by the thread that did it. ``called_away``: whether to pull nothing more for now."""

    def __init__(
        self,
        count: int,
        step: Step,
        polled: Callable[[Found], None],
        called_away: Callable[[], bool],
    ) -> None:
        self._count = count
        self._step = step
        self._polled = polled
        self._called_away = called_away
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="lane")
        self._lock = threading.Lock()
        self._running: list[Future[None]] = []
        self._over = False

    def drain(self) -> None:
        """Poll until a poll finds nothing, fails, or somebody calls away; then finish what is in
        hand.

        A server that has nothing is asked by one lane only: each lane that gets an image wakes the
        next one. Raises what a poll raised, RetryLater only where nothing worse happened.
        """
        self._running, self._over = [], False
        self._wake_next()
        while unfinished := [lane for lane in self._running if not lane.done()]:
            wait(unfinished)
        errors = [error for lane in self._running if (error := lane.exception())]
        if errors:
            raise min(errors, key=lambda error: isinstance(error, RetryLater))

    def close(self) -> None:
        """End the threads, which must have nothing in hand."""
        self._executor.shutdown()

    def _wake_next(self) -> None:
        with self._lock:
            if not self._over and len(self._running) < self._count:
                self._running.append(self._executor.submit(self._lane))

    def _lane(self) -> None:
        try:
            while not (self._over or self._called_away()):
                found = self._step(self._wake_next)
                self._polled(found)
                if found is Found.NOTHING:
                    break
        finally:
            self._over = True
