"""What the main thread waits on."""

import threading
import time
from queue import Empty

import pytest

from worker.daemon.alarm import LONGEST_SLEEP, Alarm


def seconds(alarm: Alarm, wait: float, *, until_tick: bool = False) -> float:
    started = time.monotonic()
    alarm.wait(wait, until_tick=until_tick)
    return time.monotonic() - started


def test_a_wait_lasts_as_long_as_asked() -> None:
    assert 0.1 <= seconds(Alarm(), 0.1) < 5


def test_a_stop_ends_every_wait_now_and_later() -> None:
    alarm = Alarm()
    threading.Timer(0.05, alarm.stop).start()
    assert seconds(alarm, 30) < 10
    assert alarm.stop_requested
    assert seconds(alarm, 30, until_tick=True) < 10


def test_a_tick_ends_only_a_wait_for_it() -> None:
    alarm = Alarm()
    threading.Timer(0.05, alarm.tick).start()
    assert seconds(alarm, 30, until_tick=True) < 10
    threading.Timer(0.05, alarm.tick).start()
    assert seconds(alarm, 0.3) >= 0.3


def test_a_tick_from_before_does_not_count_and_ticks_do_not_pile_up() -> None:
    alarm = Alarm()
    for _ in range(100):
        alarm.tick()
    assert seconds(alarm, 0.2, until_tick=True) >= 0.2


def test_a_wait_says_now_and_then_that_it_is_idle_whether_ticks_come_or_not() -> None:
    alarm, idle = Alarm(), []
    alarm.idle, alarm.idle_every = lambda: idle.append(time.monotonic()), 0.1
    seconds(alarm, 0.55)
    assert 4 <= len(idle) <= 7
    idle.clear()
    ticks = [threading.Timer(0.04 * number, alarm.tick) for number in range(12)]
    for tick in ticks:
        tick.start()
    seconds(alarm, 0.55)  # such a wait, after a fault, goes on through the ticks
    assert len(idle) >= 4
    for tick in ticks:
        tick.join()


def test_the_wish_to_reload_ends_a_wait_and_is_no_stop() -> None:
    alarm = Alarm()
    alarm.reload_requested = True
    assert seconds(alarm, 30) < 10
    assert not alarm.stop_requested


def test_a_signal_that_wakes_nobody_is_seen_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a signal that comes after the last look at it, and before the thread falls asleep
    alarm = Alarm()
    sleeps: list[float] = []

    class Asleep:
        def empty(self) -> bool:
            return True

        def get(self, timeout: float) -> str:
            sleeps.append(timeout)
            alarm.stop_requested = True  # Python runs the handler when the sleep is over
            raise Empty

    monkeypatch.setattr(alarm, "_queue", Asleep())
    # When the wait is a long one
    alarm.wait(3600)
    # Then it is not slept through
    assert sleeps == [LONGEST_SLEEP]
    assert LONGEST_SLEEP <= 5
