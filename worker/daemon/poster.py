"""Posting results back, beside the polls, so that no slow server holds up new images."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from worker.client import PulledImage, ServerClient
from worker.daemon.backoff import Backoff
from worker.daemon.metrics import Metrics
from worker.database import Database, Known, Owed
from worker.errors import RetryLater, ServerBusy, ServerUnreachable

logger = logging.getLogger(__name__)

QUIET = 1.0  # seconds without a new image, after which a backlog is held back no longer


@dataclass
class Poster:
    """Posts what is owed, oldest first, again and again until the server accepts or refuses it.

    Every post goes through here, so that a server that takes none gets one request a back-off;
    until it takes one they go one by one, then up to ``at_once`` together, so that a distant
    server is not waited for one by one. Safe to use from several threads. ``threads``: where the
    posts run, ``at_once`` of them that are free.
    """

    client: ServerClient
    database: Database
    metrics: Metrics
    backoff: Backoff
    threads: ThreadPoolExecutor
    at_once: int = 1
    _stored: threading.Event = field(default_factory=threading.Event)
    _stopped: bool = False
    _posting: threading.Lock = field(default_factory=threading.Lock)  # held while one is under way
    _works: bool = False  # whether the server took the last ones

    def run(self) -> None:
        """Step until `stop`; for a thread of its own."""
        images_come = False
        while not self._stopped:
            images_come = self._stored.wait(self.step(images_come=images_come))
            self._stored.clear()

    def step(self, *, images_come: bool = False) -> float | None:
        """Post what is next in line. Never sleeps.

        Returns the seconds to wait before the next step; None: until a record is stored. While
        ``images_come`` a backlog waits for the next of them, so that it does not slow them down.
        """
        if not self.database.owe:
            return None
        with self._posting:
            if left := self.backoff.left():
                return left
            try:
                owed = self.database.owed(self.at_once if self._works else 1)
            except RetryLater as error:
                return self.backoff.fault(error)
            if not owed:
                self.backoff.works()
                return None
            if not self._post_all(owed):
                return self.backoff.left()
            return QUIET if images_come else 0

    def notify(self) -> None:
        """Say that a record was stored, and something new is owed."""
        self._stored.set()

    def stop(self) -> None:
        """Let `run` end after the posts under way; the rest is posted after the next start."""
        self._stopped = True
        self._stored.set()

    def post_again(self, image: PulledImage, known: Known) -> bool:
        """Post the record of a task that was offered again, with its new lease. ``known``: what was
        noted of it then. False: the server takes no results at present. Raises DiskRefuses."""
        with self._posting:
            if known.owed and (now := self.database.known(image.task_id)) and not now.owed:
                return True  # its turn came meanwhile
            owed = self.database.owe_again(image.task_id, image.lease_id)
            return owed is None or (not self.backoff.left() and self._post_all([owed]))

    def _post_all(self, owed: list[Owed]) -> bool:
        """Whether the server took all, or refused them for good."""
        posts = [self.threads.submit(self._post, each) for each in owed]
        wait(posts)
        try:
            for post in posts:
                post.result()
        except RetryLater as error:
            self.backoff.fault(error)
            self._works = False
            return False
        self.backoff.works()
        self._works = True
        return True

    def _post(self, owed: Owed) -> None:
        """Post one result and note what came of it.

        A fault counts against this result only if the server answered it: an outage is no result's
        own fault, nor that the server is busy.
        """
        try:
            with self.metrics.stage("post"):
                refusal = self.client.post_result(owed.record, lease_id=owed.lease_id)
        except RetryLater as error:
            if not isinstance(error, (ServerUnreachable, ServerBusy)):
                self.database.mark_failed(owed.task_id)
            raise
        self.database.settle(owed.task_id, refusal)
        if refusal is None:
            logger.debug("task=%s outcome=posted", owed.task_id)
        else:
            logger.error("task=%s outcome=refused by the server: %s", owed.task_id, refusal)
