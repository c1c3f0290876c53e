"""How long to wait after faults, and what the log says of an outage."""

import logging
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.daemon.backoff import Backoff, Outage
from worker.errors import RetryLater, ServerRefuses, ServerUnreachable


def test_the_bound_doubles_from_one_second_up_to_the_longest() -> None:
    bounds: list[float] = []

    def draw(low: float, high: float) -> float:
        bounds.append(high)
        return high

    backoff = Backoff(60, draw)
    for _ in range(8):
        backoff.next_wait(RetryLater("down"))
    assert bounds == [1, 2, 4, 8, 16, 32, 60, 60]
    backoff.reset()
    assert backoff.next_wait(RetryLater("down")) == 1


@given(st.floats(1, 1000), st.integers(1, 100))
def test_no_wait_is_longer_than_the_longest(longest: float, faults: int) -> None:
    backoff = Backoff(longest)
    for _ in range(faults):
        assert 0 <= backoff.next_wait(RetryLater("down")) <= longest
    assert backoff.next_wait(RetryLater("busy", wait=7)) == min(7, longest)
    assert backoff.next_wait(RetryLater("busy", wait=1e9)) == longest


def test_a_server_that_asks_for_no_wait_at_all_gets_the_usual_one() -> None:
    assert Backoff(60, lambda low, high: high).next_wait(RetryLater("busy", wait=0.0)) == 1


def test_fifty_workers_do_not_come_back_at_once() -> None:
    waits = []
    for _ in range(50):
        backoff = Backoff(60)
        for _ in range(10):
            wait = backoff.next_wait(RetryLater("down"))
        waits.append(int(wait))
    assert max(waits.count(second) for second in set(waits)) <= 10


def test_an_outage_is_logged_when_it_starts_when_its_kind_changes_and_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    now = 100.0
    outage = Outage("polling", logging.getLogger("test"), clock=lambda: now)
    outage.over()
    for _ in range(100):
        outage.fault(ServerUnreachable("refused"), 3)
    now = 160.0
    for _ in range(100):
        outage.fault(ServerRefuses("401: look at token_file", status=401), 3)
    now = 3700.0
    outage.over()
    outage.over()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "polling: refused; next try in 3.0 s"),
        ("ERROR", "polling: 401: look at token_file; next try in 3.0 s"),
        ("INFO", "polling: works again after 3600.0 s"),
    ]


def test_after_an_hours_outage_fifty_workers_come_back_spread_with_two_log_lines_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    back_at, polls = 3600.0, []
    for number in range(50):
        now = 0.0
        draw = random.Random(number).uniform
        backoff = Backoff(60, draw)
        outage = Outage("polling", logging.getLogger("test"), clock=lambda: now)  # noqa: B023
        while now < back_at:
            wait = backoff.next_wait(ServerUnreachable("refused"))
            outage.fault(ServerUnreachable("refused"), wait)
            now += wait
        outage.over()
        polls.append(now)
    seconds = Counter(int(poll) for poll in polls)
    assert max(seconds.values()) <= 10
    assert max(polls) <= back_at + 60
    assert len(caplog.records) == 2 * 50
    lengths = [float(r.getMessage().split()[-2]) for r in caplog.records[1::2]]
    assert lengths == [pytest.approx(poll, abs=0.1) for poll in polls]
