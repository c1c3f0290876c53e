"""The schedule. APScheduler is the metronome only, since a scheduler's jobs swallow exits and miss
runs; the main thread waits for its ticks and does the rest."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Self

from worker.daemon.alarm import Alarm

# A tick that comes late or is left out is nothing to warn of: the wait has a bound of its own.
logging.getLogger("apscheduler").setLevel(logging.ERROR)


class Metronome:
    """Ticks one ``interval`` (seconds) after each call of `wait`; a context manager."""

    def __init__(self, alarm: Alarm, interval: float) -> None:
        from apscheduler.schedulers.background import BackgroundScheduler

        self._interval = interval
        self._alarm = alarm
        self._scheduler = BackgroundScheduler(timezone=UTC)

    def __enter__(self) -> Self:
        self._scheduler.add_job(
            self._alarm.tick,
            "interval",
            seconds=self._interval,
            id="poll",
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
        self._scheduler.start()
        return self

    def wait(self) -> None:
        """Wait for the next tick, or a stop. The ticks follow the wall clock: if it was set back
        and none comes, the wait is twice the interval."""
        due = datetime.now(UTC) + timedelta(seconds=self._interval)
        self._scheduler.modify_job("poll", next_run_time=due)
        self._alarm.wait(2 * self._interval, until_tick=True)

    def __exit__(self, *_: object) -> None:
        self._scheduler.shutdown(wait=False)
