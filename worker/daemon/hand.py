"""The images in hand: each from its pull until its record is on disk. One that a fault of something
else holds up is kept there, so that no such fault throws it away."""

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from worker.client import PulledImage
from worker.record import Record


@dataclass
class InHand:
    """An image that was pulled. ``asked_at``: when the server was asked for it, monotonic seconds.
    ``lease_id``: the latest one seen with its task. ``threshold``: the one that it is recorded
    with, once that is known. ``record``: what the disk did not take yet."""

    image: PulledImage
    asked_at: float
    lease_id: str | None
    threshold: float | None
    record: Record | None = None


@dataclass
class Hand:
    """What is in hand, and what is remembered of tasks that the server offered again.

    Outlives a reload of the configuration. Several threads use it: a single step of a deque or a
    dict needs no lock. ``images``: by task, those that are kept included. ``kept``: those that wait
    for something else. ``unfinished``: what a client keeps of images whose image_url is at fault.
    ``threshold``: the last one that the server gave when it was asked for it.
    ``told``: when the server was last told all that there is about a recorded task, monotonic
    seconds: in this drain, or of the last task of an earlier one.
    """

    images: dict[str, InHand] = field(default_factory=dict)
    kept: deque[InHand] = field(default_factory=deque)
    unfinished: dict[str, Any] = field(default_factory=dict)
    threshold: float | None = None
    told: dict[str, float] = field(default_factory=dict)
    _warnings: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, image: PulledImage, asked_at: float) -> InHand | None:
        """Take an image that was pulled. None: its task is in hand already."""
        new = InHand(image, asked_at, image.lease_id, image.threshold)
        with self._lock:
            held = self.images.setdefault(image.task_id, new)
            held.lease_id = image.lease_id
        return new if held is new else None

    def next_kept(self) -> InHand | None:
        """Take up again what is kept, oldest first."""
        with self._lock:
            return self.kept.popleft() if self.kept else None

    def waiting(self) -> int:
        """How many images wait for something else."""
        return len(self.kept) + len(self.unfinished)

    def tell(self, task_id: str, now: float) -> None:
        """Note that the server has been told all that there is about this recorded task."""
        self.told.pop(task_id, None)  # so that the latest one is last
        self.told[task_id] = now

    def drained(self) -> None:
        """A drain is over: in the next one the server may offer all tasks again but the last."""
        for task_id in list(self.told)[:-1]:
            del self.told[task_id]

    def first_time(self, warning: str) -> bool:
        """Whether this is asked for the first time: for what is warned of once."""
        with self._lock:
            first = warning not in self._warnings
            self._warnings.add(warning)
            return first
