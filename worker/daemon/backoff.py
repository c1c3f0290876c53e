"""How long to wait after faults, and how to speak of an outage without flooding the log."""

import logging
import math
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from worker.errors import RetryLater, ServerRefuses

logger = logging.getLogger(__name__)

FIRST_WAIT = 1.0  # seconds
REMINDER = 600.0  # seconds between two lines about an outage that lasts

# What may differ each time in messages about one and the same cause: what the server said, and
# counts of bytes or seconds. A status stays.
_PASSING = re.compile(r"'[^']*'|\"[^\"]*\"|[0-9]{4,}|[0-9]+\.[0-9]+")


@dataclass
class Backoff:
    """Exponential back-off with full jitter, so that many workers do not come back at once.

    See Brooker 2015, "Exponential Backoff And Jitter": a wait is drawn evenly from 0 up to a bound
    that doubles with every fault in a row, from 1 s up to ``longest`` seconds. It logs an outage of
    ``what`` when it begins, when its cause changes, every ten minutes, and when it ends.

    ``show`` is told each wait, and 0 when it works again. ``draw`` gives a number between two;
    ``clock``: monotonic seconds. For one thread at a time.
    """

    what: str
    longest: float
    show: Callable[[float], object] = lambda seconds: None
    draw: Callable[[float, float], float] = random.uniform
    clock: Callable[[], float] = time.monotonic
    _faults: int = 0
    _began: float = 0.0
    _told: float = 0.0
    _until: float = -math.inf
    _cause: str = ""

    def __post_init__(self) -> None:
        self.show(0)

    def fault(self, error: RetryLater, more: str = "") -> float:
        """Note a fault; ``more``: what its line says, too. Returns the seconds to wait after it:
        what the server asked for counts, up to ``longest``."""
        bound = min(self.longest, FIRST_WAIT * 2 ** min(self._faults, 30))
        # A server that asks for 0 seconds would keep both sides busy.
        seconds = min(error.wait or self.draw(0, bound), self.longest)
        now, cause = self.clock(), f"{type(error).__name__} {_PASSING.sub('', str(error))}"
        if self._faults == 0:
            self._began, self._cause = now, ""
        self._faults += 1
        level = logging.DEBUG
        if cause != self._cause or now - self._told >= REMINDER:
            level = logging.ERROR if isinstance(error, ServerRefuses) else logging.WARNING
            if cause == self._cause:
                more += f"; {self._faults} faults in {(now - self._began) / 60:.0f} minutes"
            self._cause, self._told = cause, now
        logger.log(level, "%s: %s%s; next try in %.1f s", self.what, error, more, seconds)
        self.show(seconds)
        self._until = now + seconds
        return seconds

    def left(self) -> float:
        """The seconds until the next try; 0: now."""
        return max(0.0, self._until - self.clock())

    def works(self) -> None:
        """Note that it works, be it again or still."""
        if self._faults:
            lasted, text = self.clock() - self._began, "%s: works again after %.1f s (faults: %d)"
            logger.info(text, self.what, lasted, self._faults)
            self.show(0)
        self._faults = 0
