"""Posting results back, beside the polls, so that no slow server holds up new images."""

import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

from worker.client import PulledImage, ServerClient
from worker.daemon.backoff import Backoff
from worker.daemon.metrics import Metrics
from worker.database import Database, Known, Owed
from worker.errors import RetryLater, ServerBusy, ServerUnreachable

logger = logging.getLogger(__name__)

QUIET = 1.0  # seconds without a new image, after which a backlog is held back no longer


class Poster:
    """Posts what is owed, oldest first, again and again until the server accepts or refuses it.

    Every post goes through here, so that a server that takes none gets one request a back-off;
    until it takes one they go one by one, then up to ``at_once`` together, so that a distant
    server is not waited for one by one. Safe to use from several threads. ``clock``: monotonic
    seconds.
    """

    def __init__(
        self,
        client: ServerClient,
        database: Database,
        metrics: Metrics,
        backoff: Backoff,
        *,
        at_once: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._database, self._metrics = client, database, metrics
        self._clock, self._most = clock, at_once
        self._senders = ThreadPoolExecutor(at_once, thread_name_prefix="post")
        self._stored, self._stopped = threading.Event(), threading.Event()
        self._posting = threading.Lock()  # held while posts are under way; guards all below
        self._backoff = backoff
        self._next_try = -math.inf
        self._at_once = 1

    def run(self) -> None:
        """Step until `stop`; for a thread of its own."""
        images_come = False
        while not self._stopped.is_set():
            images_come = self._stored.wait(self.step(images_come=images_come))
            self._stored.clear()

    def step(self, *, images_come: bool = False) -> float | None:
        """Post what is next in line. Never sleeps.

        Returns the seconds to wait before the next step; None: until a record is stored. While
        ``images_come`` a backlog waits for the next of them, so that it does not slow them down.
        """
        if not self._database.owe:
            return None
        with self._posting:
            if (left := self._next_try - self._clock()) > 0:
                return left
            try:
                owed = self._database.owed(self._at_once)
            except RetryLater as error:
                return self._failed(error)
            if not owed:
                self._works()
                return None
            if not self._post_all(owed):
                return self._next_try - self._clock()
            return QUIET if images_come else 0

    def notify(self) -> None:
        """Say that a record was stored, and something new is owed."""
        self._stored.set()

    def stop(self) -> None:
        """Let `run` end after the posts under way; the rest is posted after the next start."""
        self._stopped.set()
        self._stored.set()

    def post_again(self, image: PulledImage, known: Known) -> bool:
        """Post the record of a task that was offered again, with its new lease. ``known``: what was
        noted of it then. False: the server takes no results at present. Raises DiskRefuses."""
        with self._posting:
            if known.owed and (now := self._database.known(image.task_id)) and not now.owed:
                return True  # its turn came meanwhile
            owed = self._database.owe_again(image.task_id, image.lease_id)
            return owed is None or (self._next_try <= self._clock() and self._post_all([owed]))

    def closed_for(self) -> float:
        """Seconds until the next post may be tried; 0: now."""
        with self._posting:
            return max(0.0, self._next_try - self._clock())

    def _post_all(self, owed: list[Owed]) -> bool:
        """Whether the server took all, or refused them for good."""
        posts = [self._senders.submit(self._post, each) for each in owed]
        wait(posts)
        try:
            for post in posts:
                post.result()
        except RetryLater as error:
            self._failed(error)
            return False
        self._works()
        self._at_once = self._most
        return True

    def _works(self) -> None:
        self._backoff.works()
        self._metrics.backoff.labels("posting").set(0)

    def _failed(self, error: RetryLater) -> float:
        seconds = self._backoff.fault(error)
        self._metrics.backoff.labels("posting").set(seconds)
        self._next_try = self._clock() + seconds
        self._at_once = 1
        return seconds

    def _post(self, owed: Owed) -> None:
        """Post one result and note what came of it.

        A fault counts against this result only if the server answered it: an outage is no result's
        own fault, nor that the server is busy.
        """
        try:
            with self._metrics.stage("post"):
                refusal = self._client.post_result(owed.record, lease_id=owed.lease_id)
        except (ServerUnreachable, ServerBusy):
            raise
        except RetryLater:
            self._database.mark_failed(owed.task_id)
            raise
        if refusal is None:
            self._database.mark_posted(owed.task_id)
            logger.debug("task=%s outcome=posted", owed.task_id)
        else:
            self._database.mark_refused(owed.task_id, refusal)
            logger.error("task=%s outcome=refused by the server: %s", owed.task_id, refusal)
