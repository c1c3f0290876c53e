"""Posting results back, in threads of its own, so that no slow server holds up new images."""

import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from worker.client.server_client import ServerClient
from worker.daemon.backoff import Backoff, Outage
from worker.daemon.metrics import Monitor
from worker.database.database import Database, Owed
from worker.errors import DiskRefuses, RetryLater, ServerBusy, ServerUnreachable

logger = logging.getLogger(__name__)


POSTS_AN_IMAGE = 2  # while images come: keeps up with them, and works off what was owed before
QUIET = 1.0  # seconds without a new image, after which posts are held back no longer


class Poster:
    """Posts what is owed, oldest first, again and again until the server accepts or refuses it.

    While images come it holds back, so that a long backlog does not slow their analysis.

    ``at_once``: posts that may be under way together, so that a distant server's answers are not
    waited for one by one. ``ended`` is called when the thread ends: a daemon must not live on
    without its poster.
    """

    def __init__(
        self,
        client: ServerClient,
        database: Database,
        max_backoff: float,
        *,
        ended: Callable[[], None],
        at_once: int = 1,
        monitor: Monitor | None = None,
    ) -> None:
        self._client = client
        self._database = database
        self._backoff = Backoff(max_backoff)
        self._outage = Outage("posting results", logger)
        self._allowed = math.inf
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._ended = ended
        self._monitor = monitor or Monitor()
        self._at_once = at_once
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="poster")
        self._senders = ThreadPoolExecutor(at_once, thread_name_prefix="post")
        self._running: Future[None] | None = None

    def start(self) -> None:
        self._running = self._executor.submit(self._run)
        self._running.add_done_callback(lambda _: self._ended())

    def use(self, client: ServerClient, max_backoff: float) -> None:
        """Post through another client from the next post on."""
        self._client = client
        self._backoff.longest = max_backoff

    def notify(self) -> None:
        """Say that an image was stored, and something new is owed."""
        self._allowed = POSTS_AN_IMAGE
        self._wake.set()

    def stop(self) -> None:
        """Finish the post in hand and end; the rest is posted after the next start.

        Raises what ended the thread before, if anything did.
        """
        self._stop.set()
        self._wake.set()
        self._executor.shutdown()
        self._senders.shutdown()
        if self._running is not None:
            self._running.result()

    def _run(self) -> None:
        while True:
            if self._allowed <= 0 and not self._wake.wait(QUIET):
                self._allowed = math.inf
            self._wake.clear()
            if self._stop.is_set():  # looked at after clear(), which may undo what stop() set
                return
            try:
                together = self._database.owed(max(1, int(min(self._allowed, self._at_once))))
                if not together:
                    self._wake.wait()
                    continue
                self._allowed -= len(together)
                self._post_all(together)
            except RetryLater as error:
                seconds = self._backoff.next_wait(error)
                self._monitor.backoff["posting"] = seconds
                self._outage.fault(error, seconds)
                self._stop.wait(seconds)
            else:
                self._backoff.reset()
                self._monitor.backoff["posting"] = 0
                self._outage.over()

    def _post_all(self, together: list[Owed]) -> None:
        """Raises what one of them raised, when all are done."""
        if len(together) == 1:
            self._post(together[0])
            return
        posts = [self._senders.submit(self._post, owed) for owed in together]
        wait(posts)
        for each in posts:
            each.result()

    def _post(self, owed: Owed) -> None:
        with self._monitor.stage("post"):
            post(self._client, self._database, owed)


def post(client: ServerClient, database: Database, owed: Owed) -> None:
    """Post one result and note what came of it.

    Raises RetryLater where it must be tried again. That counts against this result only where the
    server answered it: an outage is no result's own fault, nor that the server or disk is busy.
    """
    try:
        refusal = client.post_result(owed.record, lease_id=owed.lease_id)
    except (ServerUnreachable, ServerBusy, DiskRefuses):
        raise
    except RetryLater:
        database.mark_failed(owed.task_id)
        raise
    if refusal is None:
        database.mark_posted(owed.task_id)
        logger.debug("task=%s outcome=posted", owed.task_id)
    else:
        database.mark_refused(owed.task_id, refusal)
        logger.error("task=%s outcome=refused by the server: %s", owed.task_id, refusal)
