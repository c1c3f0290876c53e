"""How long to wait after faults, and what the log says of an outage."""

import logging
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.daemon.backoff import Backoff
from worker.errors import RetryLater, ServerRefuses, ServerUnreachable


class Clock:
    """Monotonic seconds that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outage(clock: Clock, caplog: pytest.LogCaptureFixture) -> Backoff:
    caplog.set_level(logging.INFO)
    return Backoff("polling", 60, draw=lambda low, high: 3.0, clock=clock)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_the_bound_doubles_from_one_second_up_to_the_longest() -> None:
    bounds: list[float] = []

    def draw(low: float, high: float) -> float:
        bounds.append(high)
        return high

    backoff = Backoff("polling", 60, draw=draw)
    for _ in range(8):
        backoff.fault(RetryLater("down"))
    assert bounds == [1, 2, 4, 8, 16, 32, 60, 60]
    backoff.works()
    assert backoff.fault(RetryLater("down")) == 1


@given(st.floats(1, 1000), st.integers(1, 100))
def test_no_wait_is_longer_than_the_longest(longest: float, faults: int) -> None:
    backoff = Backoff("polling", longest)
    for _ in range(faults):
        assert 0 <= backoff.fault(RetryLater("down")) <= longest
    assert backoff.fault(RetryLater("busy", wait=7)) == min(7, longest)
    assert backoff.fault(RetryLater("busy", wait=1e9)) == longest


def test_a_server_that_asks_for_no_wait_at_all_gets_the_usual_one() -> None:
    backoff = Backoff("polling", 60, draw=lambda low, high: high)
    assert backoff.fault(RetryLater("busy", wait=0.0)) == 1


def test_fifty_workers_do_not_come_back_at_once() -> None:
    waits = []
    for number in range(50):
        backoff = Backoff("polling", 60, draw=random.Random(number).uniform)
        for _ in range(10):
            wait = backoff.fault(RetryLater("down"))
        waits.append(int(wait))
    assert max(waits.count(second) for second in set(waits)) <= 10


def test_an_outage_is_logged_when_it_begins_when_its_cause_changes_and_when_it_ends(
    outage: Backoff, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outage.works()
    for _ in range(100):
        outage.fault(ServerUnreachable("refused"))
    clock.now = 160
    for _ in range(100):
        outage.fault(ServerRefuses("401: look at token_file", status=401))
    clock.now = 400
    outage.works()
    outage.works()
    assert lines(caplog) == [
        ("WARNING", "polling: refused; next try in 3.0 s"),
        ("ERROR", "polling: 401: look at token_file; next try in 3.0 s"),
        ("INFO", "polling: works again after 300.0 s (faults: 200)"),
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ServerUnreachable("cannot connect: refused"), ServerUnreachable("no such host")),
        (RetryLater("image: status 500"), RetryLater("image: status 502")),
        (RetryLater("image: status 500"), RetryLater("threshold: status 500")),
        (ServerRefuses("401", status=401), ServerRefuses("403", status=403)),
    ],
)
def test_each_change_of_the_cause_is_a_line_also_back_again(
    outage: Backoff, caplog: pytest.LogCaptureFixture, first: RetryLater, second: RetryLater
) -> None:
    for error in (first, first, second, second, first):
        outage.fault(error)
    said = [message.partition("; next")[0] for _, message in lines(caplog)]
    assert said == [f"polling: {error}" for error in (first, second, first)]


def test_what_the_server_says_and_counts_of_bytes_are_no_change_of_the_cause(
    outage: Backoff, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1000, 1100):
        outage.fault(RetryLater(f"image: status 500 ('request {number} failed')"))
    assert len(caplog.records) == 1
    for number in range(1000, 1100):
        outage.fault(RetryLater(f"image: {number} of 5000 bytes came in {number / 100} s"))
    assert len(caplog.records) == 2


def test_an_outage_that_lasts_is_logged_every_ten_minutes_with_a_count(
    outage: Backoff, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(91):  # half an hour
        outage.fault(ServerUnreachable("refused"))
        clock.now += 20
    assert [message for _, message in lines(caplog)][1:] == [
        "polling: refused; 31 faults in 10 minutes; next try in 3.0 s",
        "polling: refused; 61 faults in 20 minutes; next try in 3.0 s",
        "polling: refused; 91 faults in 30 minutes; next try in 3.0 s",
    ]


def test_after_an_hours_outage_fifty_workers_come_back_spread_with_few_log_lines_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    back_at, polls = 3600.0, []
    for number in range(50):
        clock = Clock()
        clock.now = 0
        backoff = Backoff("polling", 60, draw=random.Random(number).uniform, clock=clock)
        while clock.now < back_at:
            clock.now += backoff.fault(ServerUnreachable("refused"))
        backoff.works()
        polls.append(clock.now)
    seconds = Counter(int(poll) for poll in polls)
    assert max(seconds.values()) <= 10
    assert max(polls) <= back_at + 60
    ends = [r.getMessage() for r in caplog.records if "works again" in r.getMessage()]
    lengths = [float(end.split(" s (")[0].split()[-1]) for end in ends]
    assert lengths == [pytest.approx(poll, abs=0.1) for poll in polls]
    assert len(caplog.records) <= 50 * (2 + 5)
