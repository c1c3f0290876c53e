"""The schedule. APScheduler is the metronome only, since a scheduler's jobs swallow exits and miss
runs; the main thread waits for its ticks and does the rest."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from worker.daemon.alarm import Alarm

# A tick that comes late or is left out is nothing to warn of: the wait has a bound of its own.
logging.getLogger("apscheduler").setLevel(logging.ERROR)


@contextmanager
def metronome(alarm: Alarm, interval: float) -> Iterator[Callable[[], None]]:
    """Gives the function that waits for the next tick, ``interval`` seconds from then, or a stop.

    The ticks follow the wall clock: if it is set back and none comes, the wait is twice as long.
    """
    with ExitStack() as stack:

        @cache
        def job() -> Any:
            # With the first wait: the first poll is not to wait until APScheduler is loaded.
            from apscheduler.schedulers.background import BackgroundScheduler

            scheduler = BackgroundScheduler(timezone=UTC)
            late_or_not = {"max_instances": 1, "coalesce": True, "misfire_grace_time": None}
            made = scheduler.add_job(alarm.tick, "interval", seconds=interval, **late_or_not)
            scheduler.start()
            stack.callback(scheduler.shutdown, wait=False)
            return made

        def wait_for_tick() -> None:
            job().modify(next_run_time=datetime.now(UTC) + timedelta(seconds=interval))
            alarm.wait(2 * interval, until_tick=True)

        yield wait_for_tick
