"""Several polls at once: who is woken when, and how a drain ends."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from worker.daemon.lanes import Lanes, Step
from worker.daemon.poller import Found
from worker.errors import DiskRefuses, RetryLater


@contextmanager
def lanes(
    count: int, step: Step, *, called_away: Callable[[], bool] = lambda: False
) -> Iterator[tuple[Lanes, list[Found]]]:
    found: list[Found] = []
    made = Lanes(count, step, found.append, called_away)
    try:
        yield made, found
    finally:
        made.close()


class Images:
    """So many images; each takes ``seconds``, and until then counts as in hand."""

    def __init__(self, count: int, seconds: float = 0.05) -> None:
        self.left, self.seconds = count, seconds
        self.polls = self.in_hand = self.most = 0
        self._lock = threading.Lock()

    def step(self, pulled: Callable[[], None]) -> Found:
        with self._lock:
            self.polls += 1
            if not self.left:
                return Found.NOTHING
            self.left -= 1
            self.in_hand += 1
            self.most = max(self.most, self.in_hand)
        pulled()
        time.sleep(self.seconds)
        with self._lock:
            self.in_hand -= 1
        return Found.IMAGE


def test_a_server_that_has_nothing_is_asked_once() -> None:
    images = Images(0)
    with lanes(8, images.step) as (made, found):
        made.drain()
        made.drain()
    assert images.polls == 2
    assert found == [Found.NOTHING] * 2


def test_one_image_brings_one_more_poll() -> None:
    images = Images(1)
    with lanes(8, images.step) as (made, found):
        made.drain()
    assert images.polls == 2
    assert sorted(each.name for each in found) == ["IMAGE", "NOTHING"]


@pytest.mark.parametrize("count", [1, 3])
def test_no_more_images_are_in_hand_than_there_are_lanes(count: int) -> None:
    images = Images(30, seconds=0.01)
    with lanes(count, images.step) as (made, found):
        made.drain()
    assert images.most == count
    assert images.in_hand == 0
    assert found.count(Found.IMAGE) == 30


def test_a_fault_ends_the_drain_after_what_is_in_hand() -> None:
    images, failed = Images(5, seconds=0.3), threading.Event()

    def step(pulled: Callable[[], None]) -> Found:
        if images.polls == 3 and not failed.is_set():
            failed.set()
            raise RetryLater("the server is down")
        return images.step(pulled)

    with lanes(4, step) as (made, found):
        with pytest.raises(RetryLater, match="the server is down"):
            made.drain()
        assert (images.left, images.in_hand, found) == (2, 0, [Found.IMAGE] * 3)
        made.drain()
    assert images.left == 0


def test_of_two_faults_the_one_that_waiting_cannot_help_is_raised() -> None:
    both = threading.Barrier(2)
    first = threading.Event()

    def step(pulled: Callable[[], None]) -> Found:
        if not first.is_set():
            first.set()
            pulled()
            both.wait(10)
            raise DiskRefuses("full")
        both.wait(10)
        raise ZeroDivisionError

    with lanes(2, step) as (made, _), pytest.raises(ZeroDivisionError):
        made.drain()


def test_who_is_called_away_finishes_what_is_in_hand_and_pulls_nothing_more() -> None:
    images = Images(100, seconds=0.05)
    with lanes(3, images.step, called_away=lambda: images.polls >= 10) as (made, _):
        made.drain()
    assert images.in_hand == 0
    assert 10 <= images.polls <= 12
