"""One poll: pull an image, have it analysed, store its record. It decides what to do, and waits for
nothing."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from worker.analysis import Analysts
from worker.client import PulledImage, ServerClient
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
    """What a poll found."""

    IMAGE = auto()  # a new image, now recorded: ask again at once, and more often
    AGAIN = auto()  # one that was recorded before; there may be others: ask again at once
    IN_HAND = auto()  # one that another poll has in hand: leave the asking to that one
    UNPOSTED = auto()  # one whose result the server waits for, and does not take at present
    NOTHING = auto()  # nothing new: wait for the next tick


@dataclass(frozen=True)
class Poller:
    """Ties server, analysis and database together. Safe to use from several threads.

    ``clock``: monotonic seconds.
    """

    config: Config
    client: ServerClient
    database: Database
    analysts: Analysts
    poster: Poster
    hand: Hand
    metrics: Metrics
    kept_images: KeptImages | None = None
    clock: Callable[[], float] = time.monotonic
    _keeping: threading.Lock = field(default_factory=threading.Lock)

    def poll(self) -> Found:
        """Poll once; what is kept in hand comes before anything new.

        Raises RetryLater when the server, the network, the disk or the machine is at fault; an
        image that was pulled by then is kept in hand.
        """
        held = self.hand.next_kept()
        if held is None:
            asked_at = self.clock()
            with self.metrics.stage("pull"):
                image = self.client.pull_image()
            if image is None:
                return Found.NOTHING
            if not self.hand.take(image):
                return Found.IN_HAND
            held = InHand(image, asked_at)
        return self._finish(held)

    def record_kept(self) -> None:
        """At the end: record what is kept in hand without asking the server for anything more.

        Raises Stop that names the tasks that cannot be recorded.
        """
        lost = []
        for _ in range(self.hand.kept_count()):
            if held := self.hand.next_kept():
                try:
                    self._finish(held, at_the_end=True)
                except RetryLater as error:
                    lost.append(f"task {held.image.task_id} is not recorded: {error}")
        if lost:
            raise Stop(f"{'; '.join(lost)}; a server that waits for results will offer it again")

    def _finish(self, held: InHand, *, at_the_end: bool = False) -> Found:
        image, record, found = held.image, held.record, Found.IMAGE
        try:
            if record is None and (known := self.database.known(image.task_id)):
                found = self._offered_again(held, known)
            else:
                record = record or self._analyze(image, at_the_end)
                self._store(image, record)
        except RetryLater:
            self.hand.keep(replace(held, record=record))
            raise
        self.client.stored(image)
        self.hand.release(image.task_id)
        return found

    def _analyze(self, image: PulledImage, at_the_end: bool) -> Record:
        threshold = image.threshold
        outcome: Analysis | ImageLost | None = image.problem
        if outcome is None:
            if threshold is None:
                threshold = self._last_threshold(image) if at_the_end else self._pull_threshold()
            try:
                with self.metrics.stage("analyze"):
                    outcome = self.analysts.analyze(image.content)
            except ImageLost as lost:
                outcome = lost
        return build_record(
            file_name=image.file_name,
            threshold=threshold,
            outcome=outcome,
            task_id=image.task_id,
            worker=self.config.worker.id,
            network=self.metrics.network,
        )

    def _pull_threshold(self) -> float:
        with self.metrics.stage("threshold"):
            self.hand.threshold = self.client.pull_threshold()
        return self.hand.threshold

    def _last_threshold(self, image: PulledImage) -> float:
        threshold, source = self.hand.threshold, "the last one that the server gave"
        if threshold is None:
            threshold = self.config.server.fallback_threshold
            source = "[server] fallback_threshold"
        text = "task=%s was kept until the end; it is recorded with threshold %g, %s"
        logger.warning(text, image.task_id, threshold, source)
        return threshold

    def _store(self, image: PulledImage, record: Record) -> None:
        task, error = image.task_id, record.get("error")
        with self.metrics.stage("store"):
            self.database.append(record, lease_id=self.hand.lease_of(task), digest=image.digest)
        if not self.database.owe:
            self.hand.answer(task, self.clock())
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
        self.metrics.images.labels("repeated").inc()
        if known.digest not in (None, image.digest) and self.hand.first_time(f"bytes of {task}"):
            logger.warning(
                "task=%s was offered with other bytes than those that are recorded: a task id must "
                "name one image for ever; the new bytes are not analysed",
                task,
            )
        answered = self.hand.answered(task)
        if not known.owed and answered is not None and held.asked_at < answered:
            return Found.AGAIN  # the server could not know yet
        if not self.poster.post_again(image, known):
            return Found.UNPOSTED
        self.hand.answer(task, self.clock())
        if known.owed or answered is None:
            return Found.AGAIN
        if not self.database.owe and self.hand.first_time("hint"):
            logger.warning(
                "recorded images keep coming back (task %s): set [server] results_path, or use a "
                "server that gives each image away once, or shows its latest",
                task,
            )
        return Found.NOTHING
