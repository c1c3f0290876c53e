"""The images in hand: each from its pull until its record is on disk. One that a fault of something
else holds up is kept there, so that no such fault throws it away."""

import threading
from dataclasses import dataclass

from worker.client import PulledImage
from worker.record import Record


@dataclass(frozen=True)
class InHand:
    """An image that was pulled. ``asked_at``: when the server was asked for it, monotonic seconds.
    ``record``: what the disk did not take yet."""

    image: PulledImage
    asked_at: float
    record: Record | None = None


class Hand:
    """What is in hand, and what is remembered of tasks that the server offered again.

    Outlives a reload of the configuration. Safe to use from several threads. ``threshold``: the
    last one that the server gave when it was asked for it.
    """

    def __init__(self) -> None:
        self.threshold: float | None = None
        self._lock = threading.Lock()
        self._leases: dict[str, str | None] = {}  # of each task in hand, the latest one seen
        self._kept: list[InHand] = []
        self._answered: dict[str, float] = {}
        self._warnings: set[str] = set()

    def take(self, image: PulledImage) -> bool:
        """Take an image that was pulled. False: its task is in hand already."""
        with self._lock:
            new = image.task_id not in self._leases
            self._leases[image.task_id] = image.lease_id
            return new

    def lease_of(self, task_id: str) -> str | None:
        """The latest lease that was seen with a task in hand."""
        with self._lock:
            return self._leases[task_id]

    def release(self, task_id: str) -> None:
        """Its record is on disk."""
        with self._lock:
            del self._leases[task_id]

    def keep(self, held: InHand) -> None:
        """Keep an image that a fault of something else holds up."""
        with self._lock:
            self._kept.append(held)

    def next_kept(self) -> InHand | None:
        """Take up again what is kept, oldest first."""
        with self._lock:
            return self._kept.pop(0) if self._kept else None

    def count(self) -> int:
        """How many images are in hand, those that are kept included."""
        with self._lock:
            return len(self._leases)

    def kept_count(self) -> int:
        with self._lock:
            return len(self._kept)

    def answer(self, task_id: str, now: float) -> None:
        """Note that the server has been told all that there is about this recorded task."""
        with self._lock:
            self._answered.pop(task_id, None)  # so that the latest one is last
            self._answered[task_id] = now

    def answered(self, task_id: str) -> float | None:
        """When that was noted last: in this drain, or of the last task of an earlier one."""
        with self._lock:
            return self._answered.get(task_id)

    def drained(self) -> None:
        """A drain is over: in the next one the server may offer all tasks again but the last."""
        with self._lock:
            for task_id in list(self._answered)[:-1]:
                del self._answered[task_id]

    def first_time(self, warning: str) -> bool:
        """Whether this is asked for the first time: for what is warned of once."""
        with self._lock:
            first = warning not in self._warnings
            self._warnings.add(warning)
            return first
