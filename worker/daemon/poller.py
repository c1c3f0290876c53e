"""One poll: pull an image, analyse it, store its record. It decides what to do, and waits for
nothing but other polls that are under way at the same time."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto

from worker.client.server_client import PulledImage, ServerClient
from worker.daemon.metrics import Monitor
from worker.database.database import Database
from worker.database.kept_images import KeptImages
from worker.errors import DiskRefuses, ImageLost, RetryLater
from worker.record import Analysis, Record, build_record

logger = logging.getLogger(__name__)

CRASHES = 2  # an image that took the process down this often in a row is not tried again


class Found(Enum):
    """What a poll found: an image (there may be more: poll again at once), or nothing new."""

    IMAGE = auto()
    NOTHING = auto()


class Poller:
    """Ties server, pipeline and database together. Safe to use from several threads.

    ``analyze`` turns bytes into an Analysis and raises ImageLost; ``parallel``: how many images it
    takes at the same time. ``stored`` is called after each record that is on disk, and after each
    repeated offer of one.
    """

    def __init__(
        self,
        client: ServerClient,
        database: Database,
        analyze: Callable[[bytes], Analysis],
        *,
        worker: str,
        network: str,
        stored: Callable[[], None],
        parallel: int = 1,
        monitor: Monitor | None = None,
        kept_images: KeptImages | None = None,
    ) -> None:
        self._client = client
        self._database = database
        self._analyze = analyze
        self._free = threading.Semaphore(parallel)
        self._worker = worker
        self._network = network
        self._stored = stored
        self._monitor = monitor or Monitor()
        self._monitor.in_hand = lambda: len(self._in_hand) + len(self._held)
        self._kept_images = kept_images
        self._last_task: str | None = None
        self._repeated: set[str] = set()
        self._hinted = False
        # Guards all below, and what is noted of an image once it is stored.
        self._changed = threading.Condition()
        self._in_hand: set[str] = set()
        self._alone = False
        self._held: dict[str, tuple[PulledImage, Record | None]] = {}

    def use(self, client: ServerClient) -> None:
        """Talk to the server through another client from now on."""
        self._client = client

    def step(self, pulled: Callable[[], None] = lambda: None) -> Found:
        """Poll once; ``pulled`` is called where that brings a new image, before its analysis.

        Raises RetryLater where the server, the network or the disk is at fault. What the disk did
        not take is kept and stored by the next step, before anything new is pulled.
        """
        image, record = self._held_back() or (self._pull(), None)
        if image is None:
            self._repeated.clear()
            return Found.NOTHING
        try:
            suspect = self._database.begun(image.task_id) > 0
        except DiskRefuses:
            self._held[image.task_id] = image, record
            raise
        with self._taken(image.task_id, alone=suspect):
            if record is None and image.task_id in self._held:
                return Found.NOTHING  # offered again before the disk took it
            try:
                if record is None:
                    if self._database.knows(image.task_id):
                        return self._offered_again(image)
                    pulled()
                    record = self._analyze_image(image)
                self._store(record, image)
            except RetryLater as error:
                if record is not None or isinstance(error, DiskRefuses):
                    # A server that gives each image away once would not give it again.
                    self._held[image.task_id] = image, record
                raise
        return Found.IMAGE

    @property
    def held_tasks(self) -> list[str]:
        """The tasks that the disk did not take yet."""
        return list(self._held)

    def _held_back(self) -> tuple[PulledImage, Record | None] | None:
        with self._changed:
            return self._held.pop(next(iter(self._held))) if self._held else None

    def _pull(self) -> PulledImage | None:
        with self._monitor.stage("pull"):
            return self._client.pull_image()

    @contextmanager
    def _taken(self, task_id: str, *, alone: bool) -> Iterator[None]:
        """Have a task in hand. Another poll that brings the same one waits, and finds it recorded.

        ``alone``: with no other in hand. So what may have ended the process before can do so again
        without another image being blamed for it.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and task_id not in self._in_hand)
            self._in_hand.add(task_id)
            self._alone = alone
            self._changed.wait_for(lambda: not alone or len(self._in_hand) == 1)
        try:
            yield
        finally:
            with self._changed:
                self._in_hand.remove(task_id)
                if alone:
                    self._alone = False
                self._changed.notify_all()

    def _offered_again(self, image: PulledImage) -> Found:
        """A recorded image: post its record again, never analyse it again."""
        self._monitor.repeated()
        self._database.owe_again(image.task_id, image.lease_id)
        self._stored()
        with self._changed:
            task, last = image.task_id, self._last_task
            self._last_task = task
            self._client.stored(image)
            if task not in (last, *self._repeated):
                # The rest of what the server holds may well be new, so the drain goes on.
                self._repeated.add(task)
                return Found.IMAGE
            if task != last and not self._database.owe and not self._hinted:
                self._hinted = True
                logger.warning(
                    "recorded images keep coming back (task %s): set [server] results_path, or use "
                    "a server that gives each image away once, or shows its latest",
                    task,
                )
            self._repeated.clear()
        return Found.NOTHING

    def _analyze_image(self, image: PulledImage) -> Record:
        threshold = image.threshold
        outcome: Analysis | ImageLost
        if image.problem is not None:
            outcome = image.problem
        else:
            if threshold is None:
                with self._monitor.stage("threshold"):
                    threshold = self._client.pull_threshold()
            outcome = self._analyze_unless_fatal(image)
        return build_record(
            file_name=image.file_name,
            threshold=threshold,
            outcome=outcome,
            task_id=image.task_id,
            worker=self._worker,
            network=self._network,
        )

    def _analyze_unless_fatal(self, image: PulledImage) -> Analysis | ImageLost:
        with self._free:
            crashes = self._database.begin(image.task_id)
            if crashes >= CRASHES:
                return ImageLost("crashed", f"the worker ended {crashes} times while analysing it")
            try:
                with self._monitor.stage("analyze"):
                    return self._analyze(image.content)
            except ImageLost as lost:
                return lost

    def _store(self, record: Record, image: PulledImage) -> None:
        with self._monitor.stage("store"):
            self._database.append(record, lease_id=image.lease_id)
        self._monitor.recorded(record)
        self._stored()
        error = record.get("error")
        with self._changed:
            self._last_task = image.task_id
            self._client.stored(image)
            if self._kept_images and not error:
                self._kept_images.keep(image.task_id, image.content)
        logger.info(
            "task=%s file=%s faces=%d ms=%s outcome=%s",
            image.task_id,
            image.file_name,
            len(record["faces"]),
            record.get("elapsed_ms", "-"),
            f"error:{error['type']} ({error['message']})" if error else "stored",
        )
