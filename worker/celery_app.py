"""Celery's way to the same records: `celery -A worker.celery_app worker`.

The task `emotion.analyze` takes one image and gives its record, which by then stands in the JSON
file of the process that analysed it: results-0.json, results-1.json and so on beside `[database]
path`. worker.ini holds as it does for the daemon; two workers on one machine need a path each.
Broker and result backend are Celery's own CELERY_BROKER_URL (default: Redis on this machine) and
CELERY_RESULT_BACKEND (default: none, the files alone).

A message is acknowledged once its record is on disk. If a process dies over it, another gets it at
once; if a whole machine does, another gets it within seconds of VISIBILITY_TIMEOUT.
"""

import os
import sys
from dataclasses import replace
from functools import cache
from threading import Lock
from typing import Any

from billiard import current_process
from celery import Celery, Task
from celery.exceptions import ImproperlyConfigured
from celery.signals import celeryd_init, worker_process_shutdown

from worker.analysis import Analysts
from worker.analysis.weights_file import read_weights
from worker.client import ServerClient
from worker.config import Config, load_config
from worker.database import Database, parse_rotation
from worker.errors import ImageLost, RetryLater, Stop, UsageError
from worker.record import Analysis, Record, build_record

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


class Recorder:
    """What one process needs, opened once: child process, JSON file, connections. For one thread.

    ``index``: 0.. among this machine's processes. Raises Stop for weights or a file that cannot be
    used.
    """

    def __init__(self, config: Config, index: int) -> None:
        self._network = read_weights(config.classification.weights)[1].network
        self._config = config
        self._client = ServerClient(config.server, config.worker.id)
        self._database = _open_database(config, index)
        self._analysts = Analysts(config)

    def record_of(self, document: dict[str, Any], *, last_try: bool) -> Record:
        """The record of the image that ``document`` offers as a server does in JSON.

        It is on disk on return; a task that was recorded before is not analysed again. Raises
        RetryLater; on the last try, what cannot be downloaded becomes an error record.
        """
        names = {key: document[key] for key in ("task_id", "file_name")}
        image = self._client.image_of(names)  # not the image yet, but its names as records have it
        if record := self._database.find(image.task_id):
            return record
        try:
            image = self._client.image_of(document)
        except RetryLater as error:
            if not last_try:
                raise
            problem = ImageLost("unreachable", f"{error}; given up after {MAX_RETRIES} retries")
            image = replace(image, problem=problem)
        outcome: Analysis | ImageLost
        try:
            outcome = image.problem or self._analysts.analyze(image.content)
        except ImageLost as lost:
            outcome = lost
        threshold = image.threshold
        if threshold is None and not image.problem:
            threshold = self._config.server.fallback_threshold
        record = build_record(
            file_name=image.file_name,
            threshold=threshold,
            outcome=outcome,
            task_id=image.task_id,
            worker=self._config.worker.id,
            network=self._network,
        )
        self._database.append(record)
        return record

    def close(self) -> None:
        self._analysts.close()
        self._client.close()
        self._database.close()


_one_at_a_time = Lock()  # if Celery is told to use threads


@cache
def _recorder() -> Recorder:
    return Recorder(load_config(), getattr(current_process(), "index", 0))


@app.task(  # type: ignore[untyped-decorator]
    name="emotion.analyze",
    bind=True,
    autoretry_for=(RetryLater, Stop),
    max_retries=MAX_RETRIES,
    retry_backoff=1,
    retry_backoff_max=LONGEST_WAIT,
)
def analyze(
    self: Task,
    image: str | None = None,
    threshold: float | None = None,
    file_name: str | None = None,
    task_id: str | None = None,
) -> Record:
    """Analyse one image; the result is its record, with an ``error`` if the image is at fault.

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
    last_try = self.request.retries >= self.max_retries
    with _one_at_a_time:
        return _recorder().record_of(document, last_try=last_try)


def _open_database(config: Config, index: int) -> Database:
    path = config.database.path
    own = path.with_name(f"{path.stem}-{index}{path.suffix}")
    return Database(own, rotation=parse_rotation(config.database.rotate))


@celeryd_init.connect  # type: ignore[untyped-decorator]
def _check(**_: object) -> None:
    """End the worker at once if it could analyse nothing; its processes come later."""
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
def close_recorder(**_: object) -> None:
    """Give back what this process has opened; another task would open it anew."""
    if _recorder.cache_info().currsize:
        _recorder().close()
        _recorder.cache_clear()
