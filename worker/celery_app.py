"""Celery's way to the same records: `celery -A worker.celery_app worker`.

The task `emotion.analyze` takes one image and gives its record, which by then stands in the JSON
file of the process that analysed it: results-0.json, results-1.json and so on beside `[database]
path`. worker.ini holds as it does for the daemon; two workers on one machine need a path each.
Broker and result backend are Celery's own CELERY_BROKER_URL (default: Redis on this machine) and
CELERY_RESULT_BACKEND (default: none, the files alone).

A message is acknowledged once its record is on disk. Where a process dies over it, another gets it
at once; where a whole machine does, another gets it within seconds of VISIBILITY_TIMEOUT.
"""

import logging
import os
import sys
from functools import cache
from threading import Lock
from typing import Any

from billiard import current_process
from celery import Celery, Task
from celery.exceptions import ImproperlyConfigured
from celery.signals import celeryd_init, worker_process_shutdown
from celery.utils.time import get_exponential_backoff_interval

from worker.analysis.weights_file import read_weights
from worker.client import PulledImage, ServerClient, read_offer
from worker.config import Config, load_config
from worker.database import Database, parse_rotation
from worker.errors import ImageLost, RetryLater, Stop, UsageError
from worker.record import Analysis, Record, build_record

logger = logging.getLogger(__name__)

CRASHES = 2  # an image that took the process down this often in a row is not tried again
MAX_RETRIES = 12  # with the usual bounds of the back-off, some minutes
LONGEST_WAIT = 300  # seconds
# Seconds: longer than the download, the analysis and the wait of one task together. Whoever holds
# a message longer is taken for dead.
VISIBILITY_TIMEOUT = 900

app = Celery("emotion", broker=os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1:6379/0"))
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    # One message in advance would wait behind a slow image while others are idle.
    worker_prefetch_multiplier=1,
    broker_transport_options={
        "visibility_timeout": VISIBILITY_TIMEOUT,
        "unacked_restore_throttle": 1,  # looked for every 10 s, not 100
    },
    result_backend_always_retry=True,  # while it cannot be reached
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
)


class Analyst:
    """What one process needs, opened once: network, JSON file, connections. For one thread.

    ``index``: 0.. among this machine's processes. Raises Stop for weights or a file that cannot be
    used.
    """

    def __init__(self, config: Config, index: int) -> None:
        _, facts = read_weights(config.classification.weights)
        self._config = config
        self._network = facts.network
        self._client = ServerClient(config.server, config.worker.id)
        self._database = _open_database(config, index)
        from worker.analysis.pipeline import (
            Pipeline,  # torch and OpenCV: not before they are needed
        )

        self._pipeline = Pipeline(config)

    def record_of(self, document: dict[str, Any], retries: int) -> Record:
        """The record of the image that ``document`` offers as a server does in JSON.

        It is on disk on return; a task that was recorded before is not analysed again.
        ``retries``: how often this was tried without the process dying. Raises RetryLater.
        """
        task_id = read_offer({}, document).task_id
        if task_id and (record := self._database.find(task_id)):
            return record
        try:
            image = self._client.image_of(document)
        except RetryLater as error:
            if task_id is None or retries < MAX_RETRIES:
                raise
            lost = ImageLost("unreachable", f"{error}; given up after {retries} retries")
            name = read_offer({}, document).file_name or task_id
            image = PulledImage(task_id, name, b"", None, None, None, lost, None)
        record = build_record(
            file_name=image.file_name,
            threshold=self._threshold(image),
            outcome=image.problem or self._analyze(image, retries),
            task_id=image.task_id,
            worker=self._config.worker.id,
            network=self._network,
        )
        self._database.append(record)
        return record

    def _threshold(self, image: PulledImage) -> float | None:
        if image.threshold is None and image.problem is None:
            return self._config.server.fallback_threshold
        return image.threshold

    def _analyze(self, image: PulledImage, retries: int) -> Analysis | ImageLost:
        crashes = self._database.begin(image.task_id) - retries
        if crashes >= CRASHES:
            return ImageLost("crashed", f"the worker ended {crashes} times while analysing it")
        try:
            return self._pipeline.analyze(image.content)
        except ImageLost as lost:
            return lost

    def close(self) -> None:
        self._client.close()
        self._database.close()


_one_at_a_time = Lock()  # where Celery is told to use threads


@cache
def _analyst() -> Analyst:
    return Analyst(load_config(), getattr(current_process(), "index", 0))


@app.task(name="emotion.analyze", bind=True)  # type: ignore[untyped-decorator]
def analyze(
    self: Task,
    image: str | None = None,
    threshold: float | None = None,
    file_name: str | None = None,
    task_id: str | None = None,
) -> Record:
    """Analyse one image; the result is its record, with an ``error`` where the image is at fault.

    ``image``: its bytes as base64, or an http:// or https:// URL at `[server] url` or one of
    `allowed_hosts`. ``threshold``: 0..1; None: `[server] fallback_threshold`. ``task_id``: None:
    Celery's own id of the task. A task id that this process recorded before gives that record.

    What waiting can help is tried again, MAX_RETRIES times at most. After that a URL that cannot be
    reached becomes an error record; a disk that is still full, or a file in use, fails the task.
    """
    is_url = isinstance(image, str) and image.lower().startswith(("http://", "https://"))
    document = {
        "image_url" if is_url else "image": image,
        "threshold": threshold,
        "file_name": file_name,
        "task_id": task_id or self.request.id,
    }
    retries = self.request.retries
    try:
        with _one_at_a_time:
            record = _analyst().record_of(document, retries)
    except (RetryLater, Stop) as error:
        logger.warning("task=%s: %s", document["task_id"], error)
        asked = error.wait if isinstance(error, RetryLater) else None
        wait = asked or get_exponential_backoff_interval(1, retries, LONGEST_WAIT, full_jitter=True)
        wait = min(wait, LONGEST_WAIT)
        raise self.retry(exc=error, countdown=wait, max_retries=MAX_RETRIES) from error
    logger.info("task=%s faces=%d", record.get("task_id"), len(record["faces"]))
    return record


def _open_database(config: Config, index: int) -> Database:
    path = config.database.path
    own = path.with_name(f"{path.stem}-{index}{path.suffix}")
    return Database(own, rotation=parse_rotation(config.database.rotate))


@celeryd_init.connect  # type: ignore[untyped-decorator]
def _check(**_: object) -> None:
    """End the worker at once where it could analyse nothing; its processes come later."""
    try:
        config = load_config()
        read_weights(config.classification.weights)
        _open_database(config, 0).close()
        try:
            _broker, _backend = app.connection_for_read().transport, app.backend
        except (ImproperlyConfigured, ImportError, KeyError, ValueError) as error:
            reason = error.args[0] if error.args else error
            raise UsageError(f"CELERY_BROKER_URL or CELERY_RESULT_BACKEND: {reason}") from error
    except Stop as error:
        print(f"celery worker: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


@worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def close_analyst(**_: object) -> None:
    """Give back what this process has opened; another task would open it anew."""
    if _analyst.cache_info().currsize:
        _analyst().close()
        _analyst.cache_clear()
