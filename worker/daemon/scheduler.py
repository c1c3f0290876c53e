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
from contextlib import ExitStack, closing
from dataclasses import dataclass

from worker.analysis import Analysts
from worker.analysis.weights_file import read_weights
from worker.client import ServerClient
from worker.config import Config
from worker.daemon.alarm import Alarm, notify
from worker.daemon.backoff import Backoff
from worker.daemon.hand import Hand
from worker.daemon.metrics import FAULTS, Metrics, health_limit, serve
from worker.daemon.poller import Found, Poller
from worker.daemon.poster import Poster
from worker.daemon.reload import reloaded
from worker.database import Database, parse_rotation
from worker.database.kept_images import KeptImages
from worker.errors import DiskRefuses, RetryLater

logger = logging.getLogger(__name__)

SWITCH_INTERVAL = 0.0005  # seconds


@dataclass
class Loop:
    """What polls and posts under one configuration, made anew on a reload.

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
        config, metrics = self.config, self.metrics
        metrics.limit = health_limit(config)
        # The one bound on the images in hand, those that are analysed included.
        self._most = most = config.worker.parallel + config.worker.prefetch
        self._threads = ThreadPoolExecutor(2 * most + 1, thread_name_prefix="daemon")
        unfinished = self.hand.unfinished
        self._client = client = ServerClient(config.server, config.worker.id, unfinished)
        longest, shown = config.worker.max_backoff, metrics.figures["backoff_seconds"]
        self._polling = Backoff("polling", longest, shown.labels("polling").set)
        self._posting = Backoff("posting results", longest, shown.labels("posting").set)
        kept, size = config.database.keep_images, config.database.keep_images_size
        images = KeptImages(kept, parse_rotation(size).max_bytes or 0) if kept else None
        tools = client, self.database, metrics
        self.poster = Poster(*tools, self._posting, self._threads, most)
        self.poller = Poller(*tools, config, self.analysts, self.poster, self.hand, images)
        self._poster_thread = self._threads.submit(self.poster.run)

    def step(self) -> float | None:
        """Drain what the server has. Returns the seconds to wait before the next time; None: until
        the next tick. Never sleeps."""
        if self._poster_thread.done():  # a daemon must not live on without its poster
            self._poster_thread.result()
        self.fault = None
        unposted = self._drain()
        self.hand.drained()
        if self.fault is None:
            return self._posting.left() if unposted else None
        kept = self.hand.waiting()
        seconds = self._polling.fault(self.fault, f"; kept in hand: {kept}" if kept else "")
        self._polled(FAULTS.get(type(self.fault), "fault"))
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
                outcome, followers = found.value
                self._polling.works()
                self._polled(outcome)
                if found is Found.IMAGE:
                    self.poster.notify()
                due += followers
                over = over or outcome != "image"
                unposted = unposted or found is Found.UNPOSTED

    def _polled(self, outcome: str) -> None:
        self.metrics.polled(outcome)
        notify("WATCHDOG=1")

    def close(self) -> None:
        """End it, when it has nothing in hand."""
        self.poster.stop()
        wait([self._poster_thread])  # it may need the threads
        self._threads.shutdown()
        self._client.close()
        self._poster_thread.result()  # raises what ended it


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
        stack.callback(alarm.close)
        if config.metrics.address:
            url = stack.enter_context(serve(config.metrics.address, metrics))
            logger.info("serving %s/metrics and /healthz, and a page at /", url)
        if (database := _open_when_there_is_room(config, alarm)) is None:
            return
        stack.enter_context(database)
        metrics.figures["images_in_hand"].set_function(
            lambda: len(hand.images) + len(hand.unfinished)
        )
        metrics.figures["images_kept"].set_function(hand.waiting)
        metrics.figures["posts_pending"].set_function(database.owed_count)
        server, interval = config.server, config.worker.poll_interval
        text = "polling %s%s every %g s, storing to %s"
        logger.info(text, server.url, server.image_path, interval, config.database.path)
        notify("READY=1")
        while not alarm.stop_requested:
            if alarm.reload_requested:
                alarm.reload_requested = False
                config = reloaded(config, read_again) if read_again else config
            with closing(Loop(config, alarm, database, analysts, hand, metrics)) as loop:
                while not alarm.called_away():
                    seconds = loop.step()
                    if seconds is None:
                        alarm.wait_for_tick(config.worker.poll_interval)
                    else:
                        alarm.wait(seconds)
                if alarm.stop_requested:
                    notify("STOPPING=1")
                    loop.poller.record_kept()
        logger.info("stopped; %d results still to post", database.owed_count())


def run_once(config: Config, alarm: Alarm, analysts: Analysts) -> int:
    """Drain what the server has, posting as it goes; returns how many posts are still owed.

    An image that cannot be finished for a fault of something else, and a result that the server
    wants before it offers more and does not take, are waited for `[worker] max_backoff` seconds in
    all. At the end each post that is owed is tried, until one fails. Raises what `run` raises,
    DiskRefuses, and RetryLater at any other fault.
    """
    network = read_weights(config.classification.weights)[1].network
    hand, metrics, patience = Hand(), Metrics(network), config.worker.max_backoff
    with (
        _open_database(config) as database,
        closing(Loop(config, alarm, database, analysts, hand, metrics)) as loop,
    ):
        while (seconds := loop.step()) is not None:
            patience -= seconds
            # What one poll kept, another one may have finished meanwhile.
            waits = loop.fault is None or loop.fault.keeps or hand.waiting()
            if alarm.stop_requested or patience < 0 or not waits:
                break
            alarm.wait(seconds)
        if hand.waiting() or loop.fault is None:
            loop.poller.record_kept()
            while loop.poster.step() == 0 and not alarm.stop_requested:
                continue
        if loop.fault is not None:
            raise loop.fault
        return database.owed_count() if database.owe else 0


def _open_database(config: Config) -> Database:
    rotation, owe = parse_rotation(config.database.rotate), bool(config.server.results_path)
    return Database(config.database.path, rotation=rotation, owe=owe)


def _open_when_there_is_room(config: Config, alarm: Alarm) -> Database | None:
    """Wait while the disk is full; None: the alarm asked to stop first."""
    backoff, asked = Backoff("starting", config.worker.max_backoff), False
    while not alarm.stop_requested:
        try:
            database = _open_database(config)
        except DiskRefuses as error:
            notify("READY=1")  # it may take long, and a start has a time limit
            alarm.wait(backoff.fault(error))
            # It would end each wait that follows; what it asks for is done when there is room.
            asked, alarm.reload_requested = asked or alarm.reload_requested, False
        else:
            backoff.works()
            alarm.reload_requested = asked or alarm.reload_requested
            return database
    return None
