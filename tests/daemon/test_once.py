"""`once`: drain what is there, posting as it goes, and end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.played import (
    NOTHING,
    THRESHOLD,
    OfferingServer,
    PlayedAnalysts,
    asked,
    configure,
    image,
    keys,
    offer,
    records,
    tasks,
    until,
)
from tests.scripted_server import Reply, Request, ScriptedServer
from worker.daemon import scheduler
from worker.daemon.alarm import Alarm
from worker.daemon.hand import Hand
from worker.daemon.scheduler import run_once
from worker.errors import RetryLater, ServerRefuses

OWED = "server.results_path=/results"


class NotedWaits(Alarm):
    """Waits no longer than a moment, and notes for how long it was to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        super().wait(min(seconds, 0.01))


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        scripted.script("/threshold", THRESHOLD)
        yield scripted


def test_it_drains_posts_and_says_what_is_still_owed(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.script("/image", image("t1"), image("t2"), NOTHING)
    server.script("/results", Reply(201), Reply(503))
    config = configure(tmp_path, server.url, OWED)
    assert run_once(config, Alarm(), PlayedAnalysts()) == 1
    assert sorted(tasks(tmp_path)) == ["t1", "t2"]
    server.script("/results", Reply(201))
    assert run_once(config, Alarm(), PlayedAnalysts()) == 0


def test_without_a_results_path_nothing_is_owed(server: ScriptedServer, tmp_path: Path) -> None:
    server.script("/image", image("t1"), NOTHING)
    assert run_once(configure(tmp_path, server.url), Alarm(), PlayedAnalysts()) == 0
    assert not asked(server, "/results")


def test_it_ends_at_the_first_fault(server: ScriptedServer, tmp_path: Path) -> None:
    alarm = NotedWaits()
    server.script("/image", Reply(500))
    with pytest.raises(RetryLater, match="500"):
        run_once(configure(tmp_path, server.url), alarm, PlayedAnalysts())
    server.script("/image", Reply(403))
    with pytest.raises(ServerRefuses, match="token_file"):
        run_once(configure(tmp_path, server.url), alarm, PlayedAnalysts())
    assert len(server.requests) == 2
    assert alarm.waits == []


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize(("lease", "tagged"), [(0, False), (2, False), (0, True)])
def test_a_server_that_offers_an_image_until_its_result_came_is_drained(
    tmp_path: Path, prefetch: int, lease: int, tagged: bool
) -> None:
    names = [f"t{number}" for number in range(20)]
    with OfferingServer(names, lease=lease, tagged=tagged) as server:
        config = configure(tmp_path, server.url, OWED, f"worker.prefetch={prefetch}")
        assert run_once(config, Alarm(), PlayedAnalysts()) == 0
        assert sorted(server.taken) == sorted(names)
    assert sorted(tasks(tmp_path)) == sorted(names)


def test_a_server_that_takes_its_results_again_after_a_while_is_drained_as_well(
    tmp_path: Path,
) -> None:
    names = [f"t{number}" for number in range(5)]
    with OfferingServer(names) as server:
        server.script("/results", Reply(500), Reply(503), server.take)
        config = configure(tmp_path, server.url, OWED, "worker.max_backoff=10")
        assert run_once(config, Alarm(), PlayedAnalysts()) == 0
        assert server.taken == names


@pytest.mark.parametrize("prefetch", [0, 3])
def test_a_server_that_takes_no_result_gets_one_post_a_back_off(
    server: ScriptedServer, tmp_path: Path, prefetch: int
) -> None:
    server.script("/image", *(image(f"t{number}") for number in range(9)), NOTHING)
    server.script("/results", Reply(503, headers={"Retry-After": "3600"}))
    config = configure(
        tmp_path, server.url, OWED, f"worker.prefetch={prefetch}", "worker.max_backoff=3600"
    )
    assert run_once(config, Alarm(), PlayedAnalysts()) == 9
    assert len(keys(server)) == 1


def test_without_a_threshold_the_image_is_recorded_with_another_after_the_longest_back_off(
    server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a server that gives each image away once, and its threshold only once
    server.script("/image", image("t1"), image("t2"), image("t3"), NOTHING)
    server.script("/threshold", Reply(body=b"0.7"), Reply(500))
    server.script("/results", Reply(201))
    alarm = NotedWaits()
    flags = (OWED, "worker.prefetch=0", "worker.max_backoff=60")
    # When it is drained
    with pytest.raises(RetryLater, match="threshold"):
        run_once(configure(tmp_path, server.url, *flags), alarm, PlayedAnalysts())
    # Then it waited for the threshold as long as it may, and lost no image that it had
    assert sum(alarm.waits) <= 60
    assert len(asked(server, "/threshold")) >= 5
    assert [(r["task_id"], r["threshold"]) for r in records(tmp_path)] == [("t1", 0.7), ("t2", 0.7)]
    assert "task=t2 was kept until the end" in caplog.text
    assert len(asked(server, "/image")) == 2
    assert keys(server) == ["t1", "t2"]


def test_a_threshold_that_comes_back_meanwhile_is_used_and_the_drain_goes_on(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.script("/image", image("t1"), image("t2"), NOTHING)
    server.script("/threshold", Reply(500), Reply(500), Reply(body=b"0.7"))
    flags = ("worker.max_backoff=60",)
    assert run_once(configure(tmp_path, server.url, *flags), NotedWaits(), PlayedAnalysts()) == 0
    assert sorted((r["task_id"], r["threshold"]) for r in records(tmp_path)) == [
        ("t1", 0.7),
        ("t2", 0.7),
    ]


@pytest.mark.parametrize("comes", [True, False])
def test_an_image_behind_a_url_at_fault_is_waited_for_as_one_in_hand_is(
    server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, comes: bool
) -> None:
    """The server gives it away once."""
    server.script("/image", offer("t1", "/1.png"), image("t2"), NOTHING)
    server.script("/1.png", Reply(500), Reply(500), image("") if comes else Reply(500))
    # One poll at a time, so that none ends in a fault while another one gets the image.
    flags = ("worker.prefetch=0", "worker.max_backoff=60")
    config, alarm = configure(tmp_path, server.url, *flags), NotedWaits()
    if comes:
        assert run_once(config, alarm, PlayedAnalysts()) == 0
    else:
        with pytest.raises(RetryLater, match="500"):
            run_once(config, alarm, PlayedAnalysts())
        assert sum(alarm.waits) <= config.worker.max_backoff
        assert "must be offered again: 1" in caplog.text
    assert sorted(tasks(tmp_path)) == (["t1", "t2"] if comes else ["t2"])


def test_an_image_that_one_poll_keeps_and_another_one_finishes_does_not_end_it(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = Hand()
    monkeypatch.setattr(scheduler, "Hand", lambda: hand)

    def nothing_until_t2_is_kept(_: Request) -> Reply:
        until(lambda: "t2" in hand.unfinished)
        return NOTHING

    # Given a server that gives each image away once, and two polls after the first image
    offered = offer("t2", "/2.png")
    server.script("/image", image("t1"), offered, nothing_until_t2_is_kept, image("t3"), NOTHING)
    server.script("/2.png", Reply(500), image(""))
    # When the one ends in the fault of an image_url, and the other one takes that image up
    config = configure(tmp_path, server.url, "worker.prefetch=1", "worker.max_backoff=60")
    assert run_once(config, NotedWaits(), PlayedAnalysts()) == 0
    # Then the drain goes on
    assert sorted(tasks(tmp_path)) == ["t1", "t2", "t3"]
