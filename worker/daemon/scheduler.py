"""The daemon: polls on a schedule, drains what is there, backs off from faults, stops gracefully.

    main thread   tick -> drain: polls at once, one more after each image, until one finds nothing
                    ^       each poll (a thread): pull -> analyse -> append
                    |                                                  | notify
                    +-- back-off after a fault                         v
    poster        (a thread) what is owed, oldest first ----------> post

The main thread does no work of its own, so that a second signal always ends the process. What a
poll found is returned to it; all that is counted about polls is counted there.
"""

import logging
import sys
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from worker.analysis import Analysts
from worker.analysis.weights_file import read_weights
from worker.client import ServerClient
from worker.config import Config
from worker.daemon.alarm import Alarm
from worker.daemon.backoff import Backoff
from worker.daemon.hand import Hand
from worker.daemon.metrics import FAULTS, Metrics, health_limit, serve
from worker.daemon.metronome import metronome
from worker.daemon.poller import Found, Poller
from worker.daemon.poster import Poster
from worker.daemon.reload import merge
from worker.daemon.systemd import alive, notify
from worker.database import Database, parse_rotation
from worker.database.kept_images import KeptImages
from worker.errors import DiskRefuses, RetryLater, UsageError
from worker.log import configure_logging

logger = logging.getLogger(__name__)

SWITCH_INTERVAL = 0.0005  # seconds

# How many polls follow one that found this; after anything else, none.
FOLLOWED_BY = {Found.IMAGE: 2, Found.AGAIN: 1}
LAST_POSTS = 10.0  # seconds that `once` waits for a server to take its last results
OUTCOMES = {Found.NOTHING: "nothing", Found.UNPOSTED: "fault"}  # of polls; else "image"


@dataclass
class Loop:
    """What polls and posts under one configuration; a context manager, made anew on a reload.

    ``fault``: what the last drain ended with, if it was one. Raises UsageError for a token or
    certificates that cannot be used.
    """

    config: Config
    alarm: Alarm
    database: Database
    analysts: Analysts
    hand: Hand
    metrics: Metrics
    fault: RetryLater | None = None

    def __post_init__(self) -> None:
        config, database, metrics = self.config, self.database, self.metrics
        longest, folder = config.worker.max_backoff, config.database.keep_images
        room = parse_rotation(config.database.keep_images_size).max_bytes or 0
        kept = KeptImages(folder, room) if folder else None
        # The one bound on the images in hand, those that are analysed included.
        self._most = most = config.worker.parallel + config.worker.prefetch
        self._client = client = ServerClient(config.server, config.worker.id)
        waits = Backoff("posting results", logger, longest)
        self._poster = poster = Poster(client, database, metrics, waits, at_once=most)
        tools = client, database, self.analysts, poster, self.hand, metrics
        self.poller = Poller(config, *tools, kept)
        self._backoff = Backoff("polling", logger, longest)
        self._threads = ThreadPoolExecutor(most + 1, thread_name_prefix="daemon")

    def __enter__(self) -> Self:
        self._posting = self._threads.submit(self._post)
        return self

    def _post(self) -> None:
        try:
            self._poster.run()
        except BaseException:  # a daemon must not live on without its poster
            self.alarm.stop()
            raise

    def step(self) -> float | None:
        """Drain what the server has. Returns the seconds to wait before the next time; None: until
        the next tick. Never sleeps."""
        self.fault = None
        unposted = self._drain()
        self.hand.drained()
        if self.fault is None:
            return self._poster.closed_for() if unposted else None
        kept = self.hand.kept_count()
        seconds = self._backoff.fault(self.fault, f"; kept in hand: {kept}" if kept else "")
        self.metrics.polled(FAULTS.get(type(self.fault), "fault"), seconds)
        alive()
        return seconds

    def _drain(self) -> bool:
        """Poll until a poll finds nothing or fails, or the alarm calls away; then let the others
        finish. Returns whether the server waits for results that it does not take at present.

        A server that has nothing is asked once; each image brings one more poll at a time, up to
        the bound on the images in hand.
        """
        polls: set[Future[Found]] = set()
        due, over, unposted = 1, False, False
        while True:
            while due and len(polls) < self._most and not (over or self.alarm.called_away()):
                polls.add(self._threads.submit(self.poller.poll))
                due -= 1
            if not polls:
                return unposted
            done, polls = wait(polls, return_when=FIRST_COMPLETED)
            due = 0
            for poll in done:
                try:
                    found = poll.result()
                except RetryLater as error:
                    self.fault, over = error, True
                    continue
                self._polled(found)
                due += FOLLOWED_BY.get(found, 0)
                unposted = unposted or found is Found.UNPOSTED
                over = over or found in (Found.NOTHING, Found.UNPOSTED)

    def _polled(self, found: Found) -> None:
        self._backoff.works()
        self.metrics.polled(OUTCOMES.get(found, "image"))
        if found is Found.IMAGE:
            self._poster.notify()
        alive()

    def post_rest(self, patience: float) -> None:
        """Help to post what is owed, waiting for ``patience`` seconds at most in all."""
        while (seconds := self._poster.step()) is not None and not self.alarm.stop_requested:
            patience -= seconds
            if seconds and patience < 0:
                return
            self.alarm.wait(seconds)

    def __exit__(self, *_: object) -> None:
        self._poster.stop()
        self._threads.shutdown()
        self._client.close()
        self._posting.result()  # raises what ended it


def run(
    config: Config,
    alarm: Alarm,
    analysts: Analysts,
    read_again: Callable[[], Config] | None = None,
) -> None:
    """Run the daemon until ``alarm`` asks to stop; when it asks to reload, ``read_again`` gives the
    configuration anew.

    Raises UsageError for weights or a metrics address that cannot be used, DatabaseUnusable for a
    locked or damaged file. Neither an unreachable server nor a full disk ends it.
    """
    # A child's answer must not wait 5 ms, Python's own interval, for a thread that parses HTTP.
    sys.setswitchinterval(SWITCH_INTERVAL)
    # First of all, so that a wrong file ends the process at once.
    network = read_weights(config.classification.weights)[1].network
    hand, metrics = Hand(), Metrics(network, health_limit(config))
    with ExitStack() as stack:
        metrics_url = stack.enter_context(serve(config.metrics.address, metrics))
        if (database := _open_when_there_is_room(config, alarm)) is None:
            return
        stack.enter_context(database)
        metrics.in_hand.set_function(hand.count)
        metrics.kept.set_function(hand.kept_count)
        metrics.pending.set_function(database.owed_count)
        server, interval = config.server, config.worker.poll_interval
        text = "polling %s%s every %g s, storing to %s"
        logger.info(text, server.url, server.image_path, interval, config.database.path)
        if metrics_url:
            logger.info("serving %s/metrics and /healthz, and a page at /", metrics_url)
        notify("READY=1")
        while not alarm.stop_requested:
            with (
                Loop(config, alarm, database, analysts, hand, metrics) as loop,
                metronome(alarm, config.worker.poll_interval) as wait_for_tick,
            ):
                while not alarm.called_away():
                    seconds = loop.step()
                    if seconds is None:
                        wait_for_tick()
                    else:
                        alarm.wait(seconds)
                if alarm.stop_requested:
                    notify("STOPPING=1")
                    loop.poller.record_kept()
            if alarm.reload_requested:
                config = _reload(config, alarm, metrics, read_again)
        logger.info("stopped; %d results still to post", database.owed_count())


def run_once(config: Config, alarm: Alarm, analysts: Analysts) -> int:
    """Drain what the server has, posting as it goes; returns how many posts are still owed.

    An image that cannot be finished for a fault of something else, and posts that the server does
    not take, are waited for `[worker] max_backoff` seconds in all. Raises what `run` raises,
    DiskRefuses, and RetryLater at any other fault.
    """
    network = read_weights(config.classification.weights)[1].network
    hand, metrics, patience = Hand(), Metrics(network), config.worker.max_backoff
    with (
        _open_database(config) as database,
        Loop(config, alarm, database, analysts, hand, metrics) as loop,
    ):
        while (seconds := loop.step()) is not None:
            patience -= seconds
            if alarm.stop_requested or patience < 0 or (loop.fault and not hand.kept_count()):
                break
            alarm.wait(seconds)
        if hand.kept_count() or loop.fault is None:
            loop.poller.record_kept()
            loop.post_rest(min(patience, LAST_POSTS))
        if loop.fault is not None:
            raise loop.fault
        return database.owed_count() if database.owe else 0


def _open_database(config: Config) -> Database:
    rotation, owe = parse_rotation(config.database.rotate), bool(config.server.results_path)
    return Database(config.database.path, rotation=rotation, owe=owe)


def _open_when_there_is_room(config: Config, alarm: Alarm) -> Database | None:
    """Wait while the disk is full; None: the alarm asked to stop first."""
    backoff = Backoff("starting", logger, config.worker.max_backoff)
    while not alarm.stop_requested:
        try:
            database = _open_database(config)
        except DiskRefuses as error:
            notify("READY=1")  # it may take long, and a start has a time limit
            alarm.wait(backoff.fault(error))
            alarm.reload_requested = False
        else:
            backoff.works()
            return database
    return None


def _reload(
    old: Config, alarm: Alarm, metrics: Metrics, read_again: Callable[[], Config] | None
) -> Config:
    """The configuration as it is to hold from now on; the old one if the new one has a mistake."""
    alarm.reload_requested = False
    try:
        config, changed, waiting = merge(old, read_again() if read_again else old)
        ServerClient(config.server, config.worker.id).close()  # whose files must be usable
    except UsageError as error:
        logger.error("SIGHUP: %s; the old configuration stays in force", error)
        return old
    configure_logging(config.log)
    metrics.limit = health_limit(config)
    changes, rest = ", ".join(changed) or "nothing", ", ".join(waiting) or "nothing"
    logger.info("SIGHUP: changed: %s; waits for a restart: %s", changes, rest)
    return config
