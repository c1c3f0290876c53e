"""One drain: how many polls there are at once, what ends it, and what follows. No run, no waiting:
server and file are real, the analysis is played."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.played import (
    HANG,
    NOTHING,
    THRESHOLD,
    OfferingServer,
    PlayedAnalysts,
    asked,
    configure,
    image,
    tasks,
    until,
)
from tests.scripted_server import Reply, ScriptedServer
from worker.daemon.alarm import Alarm
from worker.daemon.hand import Hand
from worker.daemon.metrics import Metrics
from worker.daemon.scheduler import Loop
from worker.database import Database, Owed
from worker.errors import RetryLater, ServerRefuses
from worker.record import Analysis

OWED = "server.results_path=/results"


class CountingAnalysts(PlayedAnalysts):
    """``most``: how many images were analysed at the same time; ``meanwhile`` is called in each."""

    def __init__(self, meanwhile: Callable[[int], object] = lambda number: None) -> None:
        super().__init__()
        self.now = self.most = 0
        self._meanwhile = meanwhile
        self._changing = threading.Lock()

    def analyze(self, content: bytes) -> Analysis:
        with self._changing:
            self.now += 1
            self.most = max(self.now, self.most)
            number = len(self.analysed)
            self.analysed.append(content)
        self._meanwhile(number)
        with self._changing:
            self.now -= 1
        return self.outcome  # type: ignore[return-value]


@contextmanager
def loop(
    folder: Path, url: str, *flags: str, analysts: PlayedAnalysts | None = None, **parts: Any
) -> Iterator[Loop]:
    config = configure(folder, url, *flags)
    database = parts.get("database") or Database(config.database.path, owe=OWED in flags)
    alarm, hand = parts.get("alarm") or Alarm(), parts.get("hand") or Hand()
    with (
        database,
        closing(
            Loop(config, alarm, database, analysts or PlayedAnalysts(), hand, Metrics())
        ) as made,
    ):
        yield made


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        scripted.script("/threshold", THRESHOLD)
        yield scripted


def images(count: int) -> list[Reply]:
    return [*(image(f"t{number}", X_Threshold="0.3") for number in range(count)), NOTHING]


def test_a_server_that_has_nothing_is_asked_once(server: ScriptedServer, tmp_path: Path) -> None:
    server.script("/image", NOTHING)
    with loop(tmp_path, server.url, "worker.prefetch=8") as made:
        assert [made.step(), made.step()] == [None, None]
    assert len(server.requests) == 2


def test_all_that_is_there_is_drained_in_one_step(server: ScriptedServer, tmp_path: Path) -> None:
    server.script("/image", *images(20))
    with loop(tmp_path, server.url) as made:
        assert made.step() is None
    assert sorted(tasks(tmp_path)) == sorted(f"t{number}" for number in range(20))


@pytest.mark.parametrize("flags", [("worker.prefetch=0", 1), ("worker.prefetch=3", 4)])
def test_the_images_in_hand_have_one_bound_and_it_is_reached(
    server: ScriptedServer, tmp_path: Path, flags: tuple[str, int]
) -> None:
    prefetch, bound = flags
    reached, hand = threading.Event(), Hand()

    def meanwhile(number: int) -> None:
        assert len(hand.images) <= bound
        if analysts.now == bound:
            reached.set()
        if number >= bound:  # the first ones let the number of polls grow
            assert reached.wait(HANG)

    analysts = CountingAnalysts(meanwhile)
    server.script("/image", *images(30))
    with loop(tmp_path, server.url, prefetch, analysts=analysts, hand=hand) as made:
        assert made.step() is None
    assert analysts.most == bound
    assert len(tasks(tmp_path)) == 30
    assert hand.images == {}


def test_a_fault_ends_the_drain_after_what_is_in_hand(
    server: ScriptedServer, tmp_path: Path
) -> None:
    failed = threading.Event()

    def fault(_: object) -> Reply:
        failed.set()
        return Reply(500)

    def meanwhile(number: int) -> None:
        if number == 1:  # it is being analysed when the fault comes
            assert failed.wait(HANG)

    first, second, *rest = images(9)
    server.script("/image", first, second, fault, *rest)
    with loop(tmp_path, server.url, analysts=CountingAnalysts(meanwhile)) as made:
        seconds = made.step()
        assert seconds is not None
        assert "500" in str(made.fault)
        assert "t1" in tasks(tmp_path)
        assert len(tasks(tmp_path)) == min(9, len(asked(server, "/image")) - 1)  # all it was given
        server.script("/image", NOTHING)
        assert made.step() is None
        assert made.fault is None


def test_who_is_called_away_finishes_what_is_in_hand_and_pulls_nothing_more(
    server: ScriptedServer, tmp_path: Path
) -> None:
    alarm = Alarm()

    def meanwhile(number: int) -> None:
        if number == 5:
            alarm.stop()

    analysts = CountingAnalysts(meanwhile)
    server.script("/image", *images(100))
    with loop(tmp_path, server.url, analysts=analysts, alarm=alarm) as made:
        assert made.step() is None
    assert len(tasks(tmp_path)) == len(asked(server, "/image"))
    assert 6 <= len(tasks(tmp_path)) <= 6 + 3


def test_what_no_waiting_can_help_ends_the_loop(server: ScriptedServer, tmp_path: Path) -> None:
    server.script("/image", *images(5))

    def meanwhile(number: int) -> None:
        if number == 2:
            raise ZeroDivisionError

    with (
        pytest.raises(ZeroDivisionError),
        loop(tmp_path, server.url, analysts=CountingAnalysts(meanwhile)) as made,
    ):
        made.step()


def test_of_a_threshold_that_fails_one_request_a_back_off_is_made_and_no_image_pulled(
    server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a server that gives each image away once, and fails to say its threshold
    server.script("/image", *(image(f"t{number}") for number in range(6)), NOTHING)
    server.script("/threshold", THRESHOLD, Reply(500))
    with loop(tmp_path, server.url) as made:
        made.step()
        pulled = len(asked(server, "/image"))
        kept = pulled - len(tasks(tmp_path))
        assert kept >= 1
        for step in range(1, 4):
            before = len(asked(server, "/threshold"))
            assert made.step() is not None
            assert isinstance(made.fault, RetryLater)
            assert len(asked(server, "/threshold")) == before + 1, step
        assert len(asked(server, "/image")) == pulled
        assert f"kept in hand: {kept}" in caplog.text
        # When it says it again, then each image is recorded
        server.script("/threshold", THRESHOLD)
        assert made.step() is None
    assert sorted(tasks(tmp_path)) == [f"t{number}" for number in range(6)]


class TestAServerThatOffersAnImageUntilItsResultCame:
    NAMES = tuple(f"t{number}" for number in range(12))

    @pytest.mark.parametrize("prefetch", [0, 3])
    def test_is_drained_in_one_step(self, tmp_path: Path, prefetch: int) -> None:
        with (
            OfferingServer(self.NAMES) as server,
            loop(tmp_path, server.url, OWED, f"worker.prefetch={prefetch}") as made,
        ):
            assert made.step() is None
            assert server.taken == [*self.NAMES]
        assert tasks(tmp_path) == [*self.NAMES]

    @pytest.mark.parametrize("prefetch", [0, 3])
    @pytest.mark.parametrize("lease", [1, 3, 9])
    def test_is_drained_in_one_step_also_if_its_leases_are_shorter_than_that(
        self, tmp_path: Path, prefetch: int, lease: int
    ) -> None:
        with (
            OfferingServer(self.NAMES, lease=lease) as server,
            loop(tmp_path, server.url, OWED, f"worker.prefetch={prefetch}") as made,
        ):
            # No lease runs out by itself, so the rest comes when all others were posted.
            while len(server.taken) < len(self.NAMES):
                assert made.step() is None
            assert sorted(server.taken) == sorted(self.NAMES)
        assert sorted(tasks(tmp_path)) == sorted(self.NAMES)

    @pytest.mark.parametrize("prefetch", [0, 3])
    def test_and_takes_no_result_gets_one_a_back_off(self, tmp_path: Path, prefetch: int) -> None:
        with OfferingServer(self.NAMES) as server:
            server.results = Reply(503, headers={"Retry-After": "3600"})
            flags = (OWED, f"worker.prefetch={prefetch}", "worker.max_backoff=3600")
            with loop(tmp_path, server.url, *flags) as made:
                for _ in range(20):
                    seconds = made.step()
                    assert seconds is not None
                    assert 3000 < seconds <= 3600  # it waits as long as posting does
                assert made.fault is None
            assert len(asked(server, "/results")) == 1
        assert tasks(tmp_path) == ["t0"]


def test_results_are_posted_while_the_drain_goes_on(tmp_path: Path) -> None:
    with OfferingServer([f"t{number}" for number in range(6)], lease=10_000) as server:

        def meanwhile(number: int) -> None:
            if number == 5:  # the last image waits for the result of the first
                until(lambda: "t0" in server.taken)

        analysts = CountingAnalysts(meanwhile)
        with loop(tmp_path, server.url, OWED, analysts=analysts) as made:
            assert made.step() is None
            until(lambda: len(server.taken) == 6)


def test_a_refusal_is_logged_as_one_to_look_at(
    server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.script("/image", Reply(401))
    with loop(tmp_path, server.url) as made:
        made.step()
        assert isinstance(made.fault, ServerRefuses)
    assert [r.levelname for r in caplog.records] == ["ERROR"]


def test_a_poster_that_ends_by_itself_ends_the_daemon_too(
    server: ScriptedServer, tmp_path: Path
) -> None:
    failed = threading.Event()

    class Broken(Database):
        def owed(self, most: int) -> list[Owed]:
            failed.set()
            raise ZeroDivisionError

    server.script("/image", NOTHING)
    database = Broken(tmp_path / "results.json", owe=True)
    with (
        pytest.raises(ZeroDivisionError),
        loop(tmp_path, server.url, database=database) as made,
    ):
        assert failed.wait(HANG)
        until(lambda: made.step() is not None)
