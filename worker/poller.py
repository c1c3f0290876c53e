"""One poll: pull an image, analyse it, store its record. It decides what to do, and never waits."""

import logging
from collections.abc import Callable
from enum import Enum, auto

from worker.database import Database
from worker.errors import DiskRefuses, ImageLost
from worker.faces import Analysis
from worker.kept_images import KeptImages
from worker.monitoring import Monitor
from worker.record import Record, build_record
from worker.server_client import PulledImage, ServerClient

logger = logging.getLogger(__name__)

CRASHES = 2  # an image that took the process down this often in a row is not tried again


class Found(Enum):
    """What a poll found: an image (there may be more: poll again at once), or nothing new."""

    IMAGE = auto()
    NOTHING = auto()


class Poller:
    """Ties server, pipeline and database together for one image at a time.

    ``analyze`` turns bytes into an Analysis and raises ImageLost. ``stored`` is called after each
    record that is on disk, and after each repeated offer of one.
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
        monitor: Monitor | None = None,
        kept_images: KeptImages | None = None,
    ) -> None:
        self._client = client
        self._database = database
        self._analyze = analyze
        self._worker = worker
        self._network = network
        self._stored = stored
        self._monitor = monitor or Monitor()
        self._monitor.in_hand = lambda: bool(self._in_hand)
        self._kept_images = kept_images
        self._etag: str | None = None
        self._last_task: str | None = None
        self._repeated: set[str] = set()
        self._hinted = False
        self._in_hand: PulledImage | None = None
        self._unsaved: tuple[Record, PulledImage] | None = None

    def use(self, client: ServerClient) -> None:
        """Talk to the server through another client from now on."""
        self._client = client
        self._etag = None  # it may well be another server's

    def step(self) -> Found:
        """Poll once.

        Raises RetryLater where the server, the network or the disk is at fault. What the disk did
        not take is kept and stored by the next step, before anything new is pulled.
        """
        if self._unsaved is not None:
            self._store(*self._unsaved)
            return Found.IMAGE
        image, self._in_hand = self._in_hand, None
        if image is None:
            with self._monitor.stage("pull"):
                image = self._client.pull_image(self._etag)
        if image is None:
            self._repeated.clear()
            return Found.NOTHING
        try:
            if self._database.knows(image.task_id):
                return self._offered_again(image)
            record = self._analyze_image(image)
        except DiskRefuses:
            # A server that gives each image away once would not give it again.
            self._in_hand = image
            raise
        self._store(record, image)
        return Found.IMAGE

    @property
    def held_task(self) -> str | None:
        """The task that the disk did not take yet, if there is one."""
        held = self._unsaved[1] if self._unsaved is not None else self._in_hand
        return held.task_id if held is not None else None

    def _offered_again(self, image: PulledImage) -> Found:
        """A recorded image: post its record again, never analyse it again."""
        task, last = image.task_id, self._last_task
        self._last_task, self._etag = task, image.etag
        self._monitor.images["repeated"] += 1
        self._database.owe_again(task, image.lease_id)
        self._stored()
        if task not in (last, *self._repeated):
            # The rest of what the server holds may well be new, so the drain goes on.
            self._repeated.add(task)
            return Found.IMAGE
        if task != last and not self._database.owe and not self._hinted:
            self._hinted = True
            logger.warning(
                "recorded images keep coming back (task %s): set [server] results_path, or use a "
                "server that gives each image away once, or shows its latest",
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
        crashes = self._database.begin(image.task_id)
        if crashes >= CRASHES:
            return ImageLost("crashed", f"the worker ended {crashes} times while analysing it")
        try:
            with self._monitor.stage("analyze"):
                return self._analyze(image.content)
        except ImageLost as lost:
            return lost

    def _store(self, record: Record, image: PulledImage) -> None:
        self._unsaved = (record, image)
        with self._monitor.stage("store"):
            self._database.append(record, lease_id=image.lease_id)
        self._unsaved = None
        self._monitor.recorded(record)
        self._etag = image.etag
        self._last_task = image.task_id
        self._stored()
        error = record.get("error")
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
