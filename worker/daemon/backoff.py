"""How long to wait after faults, and how to speak of an outage without flooding the log."""

import logging
import random
import time
from collections.abc import Callable

from worker.errors import RetryLater, ServerRefuses

FIRST_WAIT = 1.0  # seconds


class Backoff:
    """Exponential back-off with full jitter, so that many workers do not come back at once.

    See Brooker 2015, "Exponential Backoff And Jitter": a wait is drawn evenly from 0 up to a bound
    that doubles with every fault in a row, from 1 s up to ``longest`` seconds.
    """

    def __init__(self, longest: float, draw: Callable[[float, float], float] = random.uniform):
        self.longest = longest
        self._draw = draw
        self._faults = 0

    def next_wait(self, error: RetryLater) -> float:
        """Seconds to wait after this fault; what the server asked for counts, up to ``longest``."""
        bound = min(self.longest, FIRST_WAIT * 2 ** min(self._faults, 30))
        self._faults += 1
        if error.wait:  # one that asks for 0 seconds would keep both sides busy
            return min(error.wait, self.longest)
        return self._draw(0, bound)

    def reset(self) -> None:
        self._faults = 0


class Outage:
    """Logs an outage once when it starts, when its kind changes, and when it ends."""

    def __init__(
        self, what: str, logger: logging.Logger, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what = what
        self._logger = logger
        self._clock = clock
        self._since: float | None = None
        self._kind: object = None

    def fault(self, error: RetryLater, wait: float) -> None:
        kind = (type(error), error.status if isinstance(error, ServerRefuses) else None)
        if kind == self._kind:
            self._logger.debug("%s: %s; next try in %.1f s", self._what, error, wait)
            return
        if self._since is None:
            self._since = self._clock()
        self._kind = kind
        level = logging.ERROR if isinstance(error, ServerRefuses) else logging.WARNING
        self._logger.log(level, "%s: %s; next try in %.1f s", self._what, error, wait)

    def over(self) -> None:
        if self._since is not None:
            lasted = self._clock() - self._since
            self._logger.info("%s: works again after %.1f s", self._what, lasted)
        self._since = self._kind = None
