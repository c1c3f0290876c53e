"""What the main thread waits on; the clock and the queue of calls are played."""

from collections.abc import Callable
from queue import Empty, SimpleQueue

import pytest

from worker.daemon.alarm import LONGEST_SLEEP, Alarm


class Calls(SimpleQueue[None]):
    """A queue whose time passes only while somebody waits. ``meanwhile``: what happens after so
    many seconds of waiting; ``sleeps``: how long each wait was to be."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []
        self.meanwhile: dict[float, Callable[[], None]] = {}

    def get(self, block: bool = True, timeout: float | None = None) -> None:
        if timeout is None:
            super().get()
            return
        self.sleeps.append(timeout)
        end = self.now + timeout
        for moment in sorted(self.meanwhile):
            if moment <= end:
                self.now = moment
                self.meanwhile.pop(moment)()
                if not self.empty():
                    super().get()
                    return
        self.now = end
        raise Empty


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def alarm(calls: Calls) -> Alarm:
    return Alarm(lambda: calls.now, calls)


def test_a_wait_lasts_as_long_as_asked(alarm: Alarm, calls: Calls) -> None:
    alarm.wait(3600)
    assert calls.now == 3600


def test_a_stop_ends_every_wait_now_and_later(alarm: Alarm, calls: Calls) -> None:
    calls.meanwhile[5] = alarm.stop
    alarm.wait(3600)
    assert calls.now == 5
    assert alarm.stop_requested
    alarm.wait(3600)
    assert calls.now == 5


def test_a_tick_ends_a_wait_and_those_from_before_do_not_count(alarm: Alarm, calls: Calls) -> None:
    for _ in range(3):
        alarm.tick()
    calls.meanwhile[5] = alarm.tick
    alarm.wait(3600)
    assert calls.now == 5
    alarm.wait(100)
    assert calls.now == 105


def test_the_wish_to_reload_ends_a_wait_and_is_no_stop(alarm: Alarm, calls: Calls) -> None:
    calls.meanwhile[5] = alarm.reload
    alarm.wait(3600)
    assert calls.now == 5
    assert alarm.reload_requested
    assert not alarm.stop_requested


def test_a_signal_that_wakes_nobody_is_seen_all_the_same(alarm: Alarm, calls: Calls) -> None:
    # Given a signal that comes after the last look at it, and before the thread falls asleep:
    # Python runs its handler when the sleep is over
    calls.meanwhile[0] = lambda: setattr(alarm, "stop_requested", True)
    # When the wait is a long one
    alarm.wait(3600)
    # Then it is not slept through
    assert calls.sleeps == [LONGEST_SLEEP]
    assert LONGEST_SLEEP <= 5
