"""How long to wait after faults, and how to speak of an outage without flooding the log."""

import logging
import random
import re
import time
from collections.abc import Callable

from worker.errors import RetryLater, ServerRefuses

FIRST_WAIT = 1.0  # seconds
REMINDER = 600.0  # seconds between two lines about an outage that lasts

# What may differ each time in messages about one and the same cause: what the server said, and
# counts of bytes or seconds. A status stays.
_PASSING = re.compile(r"'[^']*'|\"[^\"]*\"|[0-9]{4,}|[0-9]+\.[0-9]+")


class Backoff:
    """Exponential back-off with full jitter, so that many workers do not come back at once.

    See Brooker 2015, "Exponential Backoff And Jitter": a wait is drawn evenly from 0 up to a bound
    that doubles with every fault in a row, from 1 s up to ``longest`` seconds. It logs an outage of
    ``what`` when it begins, when its cause changes, every ten minutes, and when it ends.

    ``draw`` gives a number between two; ``clock``: monotonic seconds. For one thread at a time.
    """

    def __init__(
        self,
        what: str,
        logger: logging.Logger,
        longest: float,
        draw: Callable[[float, float], float] = random.uniform,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._logger, self._longest = what, logger, longest
        self._draw, self._clock = draw, clock
        self._faults = 0
        self._began = self._told = 0.0
        self._cause = ""

    def fault(self, error: RetryLater, more: str = "") -> float:
        """Note a fault; ``more``: what its line says, too. Returns the seconds to wait after it:
        what the server asked for counts, up to ``longest``."""
        bound = min(self._longest, FIRST_WAIT * 2 ** min(self._faults, 30))
        # A server that asks for 0 seconds would keep both sides busy.
        wait = min(error.wait, self._longest) if error.wait else self._draw(0, bound)
        now, cause = self._clock(), f"{type(error).__name__} {_PASSING.sub('', str(error))}"
        self._faults += 1
        level = logging.ERROR if isinstance(error, ServerRefuses) else logging.WARNING
        if self._faults == 1:
            self._began = now
        elif cause == self._cause and now - self._told < REMINDER:
            level = logging.DEBUG
        elif cause == self._cause:
            more += f"; {self._faults} faults in {(now - self._began) / 60:.0f} minutes"
        if level > logging.DEBUG:
            self._cause, self._told = cause, now
        self._logger.log(level, "%s: %s%s; next try in %.1f s", self._what, error, more, wait)
        return wait

    def works(self) -> None:
        """Note that it works, be it again or still."""
        if self._faults:
            lasted, text = self._clock() - self._began, "%s: works again after %.1f s (faults: %d)"
            self._logger.info(text, self._what, lasted, self._faults)
        self._faults = 0
