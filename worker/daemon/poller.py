"""One poll: pull an image, have it analysed, store its record. It decides what to do, and waits for
nothing."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from worker.analysis import Analysts
from worker.client import ServerClient
from worker.config import Config
from worker.daemon.hand import Hand, InHand
from worker.daemon.metrics import Metrics
from worker.daemon.poster import Poster
from worker.database import Database, Known
from worker.database.kept_images import KeptImages
from worker.errors import ImageLost, RetryLater, Stop
from worker.record import Analysis, Record, build_record

logger = logging.getLogger(__name__)


class Found(Enum):
    """What a poll found: how it is counted, and how many polls follow it at once."""

    IMAGE = "image", 2  # a new image, now recorded: ask again, and more often
    AGAIN = "image", 1  # one that was recorded before; there may be others
    IN_HAND = "image", 0  # one that another poll has in hand: leave the asking to that one
    UNPOSTED = "fault", 0  # one whose result the server waits for, and does not take at present
    NOTHING = "nothing", 0  # nothing new: wait for the next tick


@dataclass(frozen=True)
class Poller:
    """Ties server, analysis and database together. Safe to use from several threads.

    ``clock``: monotonic seconds.
    """

    client: ServerClient
    database: Database
    metrics: Metrics
    config: Config
    analysts: Analysts
    poster: Poster
    hand: Hand
    kept_images: KeptImages | None = None
    clock: Callable[[], float] = time.monotonic
    _keeping: threading.Lock = field(default_factory=threading.Lock)

    def poll(self) -> Found:
        """Poll once; what is kept in hand comes before anything new.

        Raises RetryLater when the server, the network, the disk or the machine is at fault; an
        image that was pulled by then is kept in hand.
        """
        if held := self.hand.next_kept():
            return self._finish(held)
        asked_at = self.clock()
        with self.metrics.stage("pull"):
            image = self.client.pull_image()
        if image is None:
            return Found.NOTHING
        held = self.hand.take(image, asked_at)
        return self._finish(held) if held else Found.IN_HAND

    def record_kept(self) -> None:
        """At the end: record what is kept in hand without asking the server for anything more.

        Raises Stop that names the tasks that cannot be recorded.
        """
        threshold, source = self.hand.threshold, "the last one that the server gave"
        if threshold is None:
            fallback = self.config.server.fallback_threshold
            threshold, source = fallback, "[server] fallback_threshold"
        kept, lost = [*self.hand.kept], []
        self.hand.kept.clear()
        for held in kept:
            task = held.image.task_id
            if held.threshold is None and not held.image.problem:
                held.threshold = threshold
                text = "task=%s was kept until the end; it is recorded with threshold %g, %s"
                logger.warning(text, task, threshold, source)
            try:
                self._finish(held)
            except RetryLater as error:
                lost.append(f"task {task} is not recorded: {error}")
        if left := len(self.hand.unfinished):
            logger.warning("images behind an image_url that must be offered again: %d", left)
        if lost:
            raise Stop(f"{'; '.join(lost)}; a server that waits for results will offer it again")

    def _finish(self, held: InHand) -> Found:
        task = held.image.task_id
        try:
            if held.record is None and (known := self.database.known(task)):
                found = self._offered_again(held, known)
            else:
                held.record = held.record or self._analyze(held)
                self._store(held, held.record)
                found = Found.IMAGE
        except RetryLater as error:
            error.keeps = True
            self.hand.kept.append(held)
            raise
        # While the server waits for the result, a 304 would say that nothing is left to do.
        if not self.database.owe or found in (Found.AGAIN, Found.NOTHING):
            self.client.stored(held.image)
        del self.hand.images[task]
        return found

    def _analyze(self, held: InHand) -> Record:
        image = held.image
        outcome: Analysis | ImageLost | None = image.problem
        if outcome is None:
            if held.threshold is None:
                with self.metrics.stage("threshold"):
                    held.threshold = self.hand.threshold = self.client.pull_threshold()
            try:
                with self.metrics.stage("analyze"):
                    outcome = self.analysts.analyze(image.content)
            except ImageLost as lost:
                outcome = lost
        return build_record(
            file_name=image.file_name,
            threshold=held.threshold,
            outcome=outcome,
            task_id=image.task_id,
            worker=self.config.worker.id,
            network=self.metrics.network,
        )

    def _store(self, held: InHand, record: Record) -> None:
        image, task, error = held.image, held.image.task_id, record.get("error")
        with self.metrics.stage("store"):
            self.database.append(record, lease_id=held.lease_id, digest=image.digest)
        if not self.database.owe:
            self.hand.tell(task, self.clock())
        self.metrics.recorded(record)
        if self.kept_images and not error:
            with self._keeping:
                self.kept_images.keep(task, image.content)
        faces, elapsed = len(record["faces"]), record.get("elapsed_ms", "-")
        outcome = f"error:{error['type']} ({error['message']})" if error else "stored"
        text = "task=%s file=%s faces=%d ms=%s outcome=%s"
        logger.info(text, task, image.file_name, faces, elapsed, outcome)

    def _offered_again(self, held: InHand, known: Known) -> Found:
        """A recorded image: post its record again, never analyse it again."""
        image, task = held.image, held.image.task_id
        self.metrics.figures["images"].labels("repeated").inc()
        if known.digest not in (None, image.digest) and self.hand.first_time(f"bytes of {task}"):
            logger.warning(
                "task=%s was offered with other bytes than those that are recorded: a task id must "
                "name one image for ever; the new bytes are not analysed",
                task,
            )
        told = self.hand.told.get(task)
        if not known.owed and told is not None and held.asked_at < told:
            return Found.AGAIN  # the server could not know yet
        if not self.poster.post_again(image, known):
            return Found.UNPOSTED
        self.hand.tell(task, self.clock())
        if known.owed or told is None:
            return Found.AGAIN
        if not self.database.owe and self.hand.first_time("hint"):
            logger.warning(
                "recorded images keep coming back (task %s): set [server] results_path, or use a "
                "server that gives each image away once, or shows its latest",
                task,
            )
        return Found.NOTHING
