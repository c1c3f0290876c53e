"""The daemon: polls on a schedule, drains what is there, backs off from faults, stops gracefully.

                    tick (APScheduler)                            Poster's threads
                          v                                             ^
    main thread:  wait -> Lanes.drain() while images come               | notify
                    ^        lanes: pull -> analyse -> append ----------+
                    |               pull -> analyse -> append ...
                    +-- back-off after a fault

APScheduler is the metronome only, since a scheduler's jobs swallow exits. The main thread waits and
does no work, so that a second signal always ends the process. The tick follows the wall clock, so
the wait for it has a monotonic bound of its own.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Self

from apscheduler.schedulers.background import BackgroundScheduler

from worker.analysis.analyst import Analysts
from worker.analysis.weights_file import read_weights
from worker.client.server_client import ServerClient
from worker.config import Config
from worker.daemon.alarm import Alarm
from worker.daemon.backoff import Backoff, Outage
from worker.daemon.lanes import Lanes
from worker.daemon.metrics import Monitor, health_limit, outcome_of, serve
from worker.daemon.poller import Found, Poller
from worker.daemon.poster import Poster, post
from worker.daemon.reload import merge
from worker.daemon.systemd import alive, notify, watchdog_seconds
from worker.database.database import Database, parse_rotation
from worker.database.kept_images import KeptImages
from worker.errors import RetryLater, Stop, UsageError
from worker.log import configure_logging

logger = logging.getLogger(__name__)
# A tick that comes late or is left out is nothing to warn of: the wait has a bound of its own.
logging.getLogger("apscheduler").setLevel(logging.ERROR)


class Metronome:
    """Ticks one ``interval`` (seconds) after each call of `wait`; a context manager."""

    def __init__(self, alarm: Alarm, interval: float) -> None:
        self.interval = interval
        self._alarm = alarm
        self._scheduler = BackgroundScheduler(timezone=UTC)

    def __enter__(self) -> Self:
        self._scheduler.add_job(
            self._alarm.tick,
            "interval",
            seconds=self.interval,
            id="poll",
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
        self._scheduler.start()
        return self

    def wait(self) -> None:
        """Wait for the next tick, or a stop; where the wall clock was set back and no tick comes,
        for twice the interval."""
        due = datetime.now(UTC) + timedelta(seconds=self.interval)
        self._scheduler.modify_job("poll", next_run_time=due)
        self._alarm.wait(2 * self.interval, until_tick=True)

    def __exit__(self, *_: object) -> None:
        self._scheduler.shutdown(wait=False)


def run(
    config: Config,
    alarm: Alarm,
    analysts: Analysts,
    read_again: Callable[[], Config] | None = None,
) -> None:
    """Run the daemon until ``alarm`` asks to stop; where it asks to reload, ``read_again`` gives
    the configuration anew.

    Raises UsageError for weights or a metrics address that cannot be used, DatabaseUnusable for a
    locked or damaged file. Neither an unreachable server nor a full disk ends it.
    """
    network = _network(config)
    monitor = Monitor(health_limit(config), network)
    backoff, outage = Backoff(config.worker.max_backoff), Outage("polling", logger)
    with (
        _open_database(config) as database,
        Metronome(alarm, config.worker.poll_interval) as beat,
        serve(config.metrics.address, monitor, database.owed_count) as metrics_url,
    ):
        poster = Poster(
            _client(config),
            database,
            config.worker.max_backoff,
            ended=alarm.stop,
            at_once=_lane_count(config),
            monitor=monitor,
        )
        poller = _poller(config, database, analysts, network, poster.notify, monitor)

        def polled(found: Found) -> None:
            backoff.reset()
            outage.over()
            monitor.polled(found.name.lower())
            alive()

        lanes = Lanes(_lane_count(config), poller.step, polled, alarm.called_away)

        def reload(old: Config) -> Config:
            alarm.reload_requested = False
            try:
                new, changed, waiting = merge(old, read_again() if read_again else old)
                clients = _client(new), _client(new)
            except UsageError as error:
                logger.error("SIGHUP: %s; the old configuration stays in force", error)
                return old
            configure_logging(new.log)
            poller.use(clients[0])
            poster.use(clients[1], new.worker.max_backoff)
            beat.interval, backoff.longest = new.worker.poll_interval, new.worker.max_backoff
            monitor.limit = health_limit(new)
            changes, rest = ", ".join(changed) or "nothing", ", ".join(waiting) or "nothing"
            logger.info("SIGHUP: changed: %s; waits for a restart: %s", changes, rest)
            return new

        alarm.idle, alarm.idle_every = alive, watchdog_seconds() / 2
        poster.start()
        logger.info(
            "polling %s%s every %g s, storing to %s",
            config.server.url,
            config.server.image_path,
            config.worker.poll_interval,
            config.database.path,
        )
        if metrics_url:
            logger.info("serving %s/metrics and /healthz", metrics_url)
        notify("READY=1")
        try:
            while not alarm.stop_requested:
                if alarm.reload_requested:
                    config = reload(config)
                try:
                    lanes.drain()
                except RetryLater as error:
                    wait = backoff.next_wait(error)
                    outage.fault(error, wait)
                    monitor.polled(outcome_of(error), wait)
                    alive()
                    alarm.wait(wait)
                else:
                    beat.wait()
        finally:
            notify("STOPPING=1")
            lanes.close()
            poster.stop()
        if held := poller.held_tasks:
            lost = ", ".join(f"task {task} is not recorded" for task in held)
            raise Stop(
                f"stopped while the disk was full: {lost}; a server that waits for results will "
                "offer it again"
            )
        logger.info("stopped; %d results still to post", database.owed_count())


def run_once(config: Config, alarm: Alarm, analysts: Analysts) -> int:
    """Drain what the server has, try each owed post once; returns how many are still owed.

    Raises what `run` raises, and RetryLater at the first fault.
    """
    network = _network(config)
    with _open_database(config) as database:
        poller = _poller(config, database, analysts, network, lambda: None)
        lanes = Lanes(_lane_count(config), poller.step, lambda _: None, alarm.called_away)
        try:
            lanes.drain()
        finally:
            lanes.close()
        client, tried = _client(config), 0
        while not alarm.stop_requested and (owed := database.next_owed(after=tried)) is not None:
            tried = owed.sequence
            try:
                post(client, database, owed)
            except RetryLater as error:
                logger.warning("task=%s could not be posted: %s", owed.task_id, error)
        return database.owed_count() if database.owe else 0


def _open_database(config: Config) -> Database:
    return Database(
        config.database.path,
        rotation=parse_rotation(config.database.rotate),
        owe=bool(config.server.results_path),
    )


def _client(config: Config) -> ServerClient:
    return ServerClient(config.server, config.worker.id)


def _lane_count(config: Config) -> int:
    return config.worker.parallel + config.worker.prefetch


def _network(config: Config) -> str:
    """The network's name; read first of all, so that a wrong file ends the process at once."""
    _, facts = read_weights(config.classification.weights)
    return facts.network


def _poller(
    config: Config,
    database: Database,
    analysts: Analysts,
    network: str,
    stored: Callable[[], None],
    monitor: Monitor | None = None,
) -> Poller:
    folder, size = config.database.keep_images, config.database.keep_images_size
    most = parse_rotation(size).max_bytes
    assert most is not None
    return Poller(
        _client(config),
        database,
        analysts.analyze,
        worker=config.worker.id,
        network=network,
        stored=stored,
        parallel=analysts.places,
        monitor=monitor,
        kept_images=KeptImages(folder, most) if folder else None,
    )
