"""Posting back: oldest first, until the server accepts or refuses it; the clock is played."""

import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.played import HANG, Clock, asked, image, keys, until
from tests.scripted_server import Reply, Request, ScriptedServer
from worker.client import ServerClient
from worker.config import ServerConfig
from worker.daemon.backoff import Backoff
from worker.daemon.metrics import Metrics
from worker.daemon.poster import QUIET, Poster
from worker.database import Database, Owed, posting_states
from worker.errors import DiskRefuses


def record(task: str) -> dict[str, Any]:
    return {"file_name": f"{task}.png", "threshold": 0.5, "faces": [], "task_id": task}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        scripted.script("/results", Reply(201))
        yield scripted


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "results.json", owe=True) as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(url: str, database: Database, clock: Clock, at_once: int = 1) -> Poster:
    """A poster that waits 10 s after each fault."""
    client = ServerClient(ServerConfig(url=url, results_path="/results"), "w1")
    waits = Backoff("posting", 60, draw=lambda low, high: 10.0, clock=clock)
    return Poster(client, database, Metrics(), waits, ThreadPoolExecutor(at_once), at_once)


@pytest.fixture
def poster(server: ScriptedServer, database: Database, clock: Clock) -> Poster:
    return make(server.url, database, clock)


def owe(database: Database, *names: str) -> None:
    for name in names:
        database.append(record(name))


def rounds(poster: Poster, clock: Clock, count: int) -> None:
    """So many steps, each as soon as it may be."""
    for _ in range(count):
        clock.now += poster.backoff.left()
        poster.step()


def test_what_is_owed_is_posted_oldest_first_each_with_its_lease(
    server: ScriptedServer, database: Database, poster: Poster
) -> None:
    database.append(record("t1"), lease_id="l1")
    database.append(record("t2"))
    assert [poster.step() for _ in range(3)] == [0, 0, None]
    assert keys(server) == ["t1", "t2"]
    assert json.loads(server.requests[0].body) == record("t1")
    assert server.requests[0].headers["X-Lease-Id"] == "l1"
    assert "X-Lease-Id" not in server.requests[1].headers
    assert database.owed_count() == 0


def test_a_post_that_fails_is_tried_again_with_the_same_key(
    server: ScriptedServer, database: Database, poster: Poster, clock: Clock
) -> None:
    server.script("/results", Reply(500), Reply(401), Reply(404), Reply(409))
    owe(database, "t1")
    rounds(poster, clock, 4)
    assert keys(server) == ["t1"] * 4
    assert database.owed_count() == 0


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_server_that_takes_nothing_gets_one_request_a_back_off_whoever_asks(
    server: ScriptedServer, database: Database, clock: Clock, at_once: int
) -> None:
    server.script("/results", Reply(500))
    poster = make(server.url, database, clock, at_once)
    owe(database, "t1", "t2", "t3", "t4", "t5")
    offered = ServerClient(ServerConfig(url=server.url), "w1")
    server.script("/image", image("t5"))
    again, known = offered.pull_image(), database.known("t5")
    assert again is not None
    assert known is not None
    for back_off in range(1, 6):
        assert poster.step() == 10
        for passed in (0.0, 9.0):
            clock.now += passed
            assert poster.step() == 10 - passed
            assert not poster.post_again(again, known)
            assert poster.backoff.left() == 10 - passed
        assert len(keys(server)) == back_off
        clock.now += 1
    assert not poster.post_again(again, known)
    assert len(keys(server)) == 6
    assert poster.step() == 10


def test_a_server_that_is_far_away_gets_several_at_once_after_it_took_one(
    server: ScriptedServer, database: Database, clock: Clock
) -> None:
    together = threading.Barrier(4)

    def answer(request: Request) -> Reply:
        if request.headers["Idempotency-Key"] != "t0":
            together.wait(HANG)  # passes only when four are under way
        return Reply(201)

    server.script("/results", answer)
    owe(database, *(f"t{number}" for number in range(9)))
    poster = make(server.url, database, clock, at_once=4)
    assert poster.step() == 0
    assert keys(server) == ["t0"]
    assert [poster.step() for _ in range(3)] == [0, 0, None]
    assert sorted(keys(server)) == [f"t{number}" for number in range(9)]


def test_of_several_at_once_one_that_fails_is_tried_again_and_the_others_are_not(
    server: ScriptedServer, database: Database, clock: Clock
) -> None:
    failed: list[str] = []

    def answer(request: Request) -> Reply:
        key = request.headers["Idempotency-Key"]
        if key == "t2" and not failed:
            failed.append(key)
            return Reply(500)
        return Reply(201)

    server.script("/results", answer)
    owe(database, *(f"t{number}" for number in range(5)))
    rounds(make(server.url, database, clock, at_once=4), clock, 4)
    assert sorted(keys(server)) == ["t0", "t1", "t2", "t2", "t3", "t4"]


def test_what_could_not_be_posted_is_posted_after_a_restart(
    server: ScriptedServer, tmp_path: Path, clock: Clock
) -> None:
    server.script("/results", Reply(503), Reply(201))
    with Database(tmp_path / "r.json", owe=True) as database:
        database.append(record("t1"), lease_id="l1")
        make(server.url, database, clock).step()
    with Database(tmp_path / "r.json", owe=True) as database:
        make(server.url, database, clock).step()
        assert database.owed_count() == 0
    assert keys(server) == ["t1", "t1"]
    assert [r.headers["X-Lease-Id"] for r in server.requests] == ["l1", "l1"]


def test_a_refusal_for_good_is_noted_and_never_posted_again(
    server: ScriptedServer, database: Database, poster: Poster, clock: Clock
) -> None:
    refusal = Reply(422, b"no such thing", {"Content-Type": "text/plain"})
    server.script("/results", refusal, Reply(201))
    owe(database, "t1", "t2")
    rounds(poster, clock, 3)
    assert keys(server) == ["t1", "t2"]
    refused = [state for state in posting_states(database.path) if state[1] == "refused"]
    ((task, _, reason),) = refused
    assert task == "t1"
    assert "422" in str(reason)
    assert "no such thing" in str(reason)


def test_one_result_that_always_fails_does_not_hold_up_the_others(
    server: ScriptedServer, database: Database, poster: Poster, clock: Clock
) -> None:
    server.script(
        "/results",
        lambda request: Reply(500 if request.headers["Idempotency-Key"] == "bad" else 201),
    )
    owe(database, "bad", "t2", "t3")
    rounds(poster, clock, 7)
    assert keys(server) == ["bad"] * 5 + ["t2", "t3"]
    assert database.owed_count() == 1


def test_a_busy_server_counts_against_no_result_and_the_order_stays(
    server: ScriptedServer, database: Database, poster: Poster, clock: Clock
) -> None:
    server.script("/results", *[Reply(503)] * 8, *[Reply(429)] * 8, Reply(201))
    owe(database, "t1", "t2", "t3")
    rounds(poster, clock, 16 + 3)
    assert keys(server) == ["t1"] * 17 + ["t2", "t3"]


def test_an_outage_counts_against_no_result(database: Database, clock: Clock) -> None:
    owe(database, "t1", "t2")
    rounds(make("http://127.0.0.1:1", database, clock), clock, 7)
    assert [owed.task_id for owed in database.owed(2)] == ["t1", "t2"]


def test_a_disk_that_refuses_is_an_outage_that_ends_though_nothing_is_owed_by_then(
    server: ScriptedServer, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    class Refusing(Database):
        refuses = True

        def owed(self, most: int) -> list[Owed]:
            if self.refuses:
                raise DiskRefuses("cannot write the index")
            return super().owed(most)

    caplog.set_level(logging.INFO)
    with Refusing(tmp_path / "r.json", owe=True) as database:
        poster = make(server.url, database, clock)
        assert poster.step() == 10
        database.refuses = False
        clock.now += 10
        assert poster.step() is None
    assert [r.getMessage().split(";")[0].split(" after")[0] for r in caplog.records] == [
        "posting: cannot write the index",
        "posting: works again",
    ]


def test_without_a_results_path_nothing_is_looked_for(
    server: ScriptedServer, tmp_path: Path, clock: Clock
) -> None:
    class Unasked(Database):
        def owed(self, most: int) -> list[Owed]:
            raise AssertionError("nobody posts")

    with Unasked(tmp_path / "r.json") as database:
        assert make(server.url, database, clock).step() is None


def test_a_backlog_waits_for_the_next_image_while_images_come(
    server: ScriptedServer, database: Database, poster: Poster
) -> None:
    owe(database, "t1", "t2", "t3")
    assert poster.step(images_come=True) == QUIET
    assert poster.step(images_come=True) == QUIET
    assert keys(server) == ["t1", "t2"]
    assert poster.step() == 0  # and is worked off at once when none came meanwhile
    assert poster.step() is None


def test_it_runs_until_it_is_stopped_and_posts_what_it_is_told_of(
    server: ScriptedServer, database: Database, poster: Poster
) -> None:
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(poster.run)
        for number in range(3):
            owe(database, f"t{number}")
            poster.notify()
            until(lambda: database.owed_count() == 0)
        poster.stop()
        running.result(HANG)
    assert keys(server) == ["t0", "t1", "t2"]


class TestATaskThatIsOfferedAgain:
    def test_is_posted_at_once_even_if_others_are_in_line(
        self, server: ScriptedServer, database: Database, poster: Poster
    ) -> None:
        owe(database, "t1", "t2", "t3")
        server.script("/image", image("t3", X_Lease_Id="l9"))
        offered = ServerClient(ServerConfig(url=server.url), "w1").pull_image()
        known = database.known("t3")
        assert offered is not None
        assert known is not None
        assert poster.post_again(offered, known)
        (post,) = asked(server, "/results")
        assert (post.headers["Idempotency-Key"], post.headers["X-Lease-Id"]) == ("t3", "l9")

    def test_is_not_posted_twice_if_its_turn_came_meanwhile(
        self, server: ScriptedServer, database: Database, poster: Poster
    ) -> None:
        owe(database, "t1")
        server.script("/image", image("t1"))
        offered = ServerClient(ServerConfig(url=server.url), "w1").pull_image()
        known = database.known("t1")
        assert offered is not None
        assert known is not None
        poster.step()
        assert poster.post_again(offered, known)
        assert keys(server) == ["t1"]
