"""The reference server's queue of images: what it promises, and the one that is kept in memory.

- An image is given to one worker at a time, under a lease. If the lease runs out without a
  result, the image is given out again, behind those that wait by then: one which kills its workers
  holds up nobody.
- A task has one result: the first record under its id, also if its lease ran out or was handed
  on. Nothing else ends a lease early.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from uuid import uuid4

UNKNOWN_TYPE = "application/octet-stream"
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class QueuedImage:
    """An image and what goes with it. ``threshold`` is 0..1, or None if the server's holds."""

    task_id: str
    file_name: str
    content_type: str
    threshold: float | None
    content: bytes


class ImageQueue(ABC):
    """What the server needs of a queue; each call may come from any thread.

    ``threshold`` (0..1) is the one in force; it may be set at any time. A queue that stands on
    another program raises RetryLater from each call when that one cannot serve.
    """

    threshold: float

    def add(
        self, content: bytes, name: str, kind: str = UNKNOWN_TYPE, threshold: float | None = None
    ) -> str:
        """Put an image of media type ``kind`` at the end of the line; returns its task id."""
        # Printable and short: it must fit into a header.
        name = "".join(filter(str.isprintable, name))[-255:] or "image"
        image = QueuedImage(str(uuid4()), name, kind, threshold, content)
        self.put(image)
        return image.task_id

    @abstractmethod
    def put(self, image: QueuedImage) -> None:
        """Put an image with a task id of its own at the end of the line."""

    @abstractmethod
    def lease(self) -> QueuedImage | None:
        """Hand out the next image; None if none waits."""

    @abstractmethod
    def finish(self, task_id: str, record: str) -> bool | None:
        """Keep a task's record (JSON text) and forget the image, whoever holds its lease.

        False: it has a record already. None: it never was in this queue. Neither keeps anything.
        """

    @abstractmethod
    def records(self) -> list[str]:
        """Every record (JSON text), in the order in which they came."""

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """How many images are ``waiting``, ``leased`` and ``done``."""


class MemoryQueue(ImageQueue):
    """A queue that ends with the process.

    ``threshold``: 0..1; None: DEFAULT_THRESHOLD. ``lease_seconds`` is how long a worker has for
    one image, by ``clock`` (seconds that never run back).
    """

    def __init__(
        self,
        threshold: float | None = None,
        lease_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.threshold = DEFAULT_THRESHOLD if threshold is None else threshold
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._lock = Lock()
        # Each with the time from which it may be handed out, the next in line first.
        self._open: dict[str, tuple[float, QueuedImage]] = {}
        self._records: dict[str, str] = {}

    def put(self, image: QueuedImage) -> None:
        with self._lock:
            self._open[image.task_id] = (self._clock(), image)

    def lease(self) -> QueuedImage | None:
        with self._lock:
            now = self._clock()
            for task_id, (free_from, image) in self._open.items():
                if free_from <= now:
                    del self._open[task_id]  # it goes to the end of the line
                    self._open[task_id] = (now + self._lease_seconds, image)
                    return image
        return None

    def finish(self, task_id: str, record: str) -> bool | None:
        with self._lock:
            if task_id in self._records:
                return False
            if self._open.pop(task_id, None) is None:
                return None
            self._records[task_id] = record
        return True

    def records(self) -> list[str]:
        with self._lock:
            return list(self._records.values())

    def counts(self) -> dict[str, int]:
        with self._lock:
            leased = sum(free_from > self._clock() for free_from, _ in self._open.values())
            waiting, done = len(self._open) - leased, len(self._records)
        return {"waiting": waiting, "leased": leased, "done": done}
