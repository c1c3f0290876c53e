"""Posting back: in the background, oldest first, until the server accepts or refuses it."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scripted_server import Reply, ScriptedServer
from worker.client.server_client import ServerClient
from worker.config import ServerConfig
from worker.daemon import poster as poster_module
from worker.daemon.poster import Poster, post
from worker.database.database import Database
from worker.errors import RetryLater, ServerBusy, ServerUnreachable


def record(task: str) -> dict[str, Any]:
    return {"file_name": f"{task}.png", "threshold": 0.5, "faces": [], "task_id": task}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "results.json", owe=True) as opened:
        yield opened


def client(server: ScriptedServer) -> ServerClient:
    return ServerClient(ServerConfig(url=server.url, results_path="/results", timeout=2), "w1")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def keys(server: ScriptedServer) -> list[str]:
    return [request.headers["Idempotency-Key"] for request in server.requests]


def test_what_is_owed_is_posted_in_the_background_oldest_first(
    server: ScriptedServer, database: Database
) -> None:
    server.script("/results", Reply(201))
    database.append(record("t1"), lease_id="l1")
    poster = Poster(client(server), database, max_backoff=1, ended=lambda: None)
    poster.start()
    database.append(record("t2"))
    poster.notify()
    until(lambda: database.owed_count() == 0)
    poster.stop()
    assert keys(server) == ["t1", "t2"]
    assert json.loads(server.requests[0].body) == record("t1")
    assert server.requests[0].headers["X-Lease-Id"] == "l1"
    assert "X-Lease-Id" not in server.requests[1].headers


def test_a_post_that_fails_is_tried_again_with_the_same_key(
    server: ScriptedServer, database: Database
) -> None:
    server.script("/results", Reply(500), Reply(401), Reply(404), Reply(409))
    database.append(record("t1"))
    poster = Poster(client(server), database, max_backoff=1, ended=lambda: None)
    poster.start()
    until(lambda: database.owed_count() == 0)
    poster.stop()
    assert keys(server) == ["t1"] * 4


def test_what_could_not_be_posted_is_posted_after_a_restart(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.script("/results", Reply(503), Reply(201))
    with Database(tmp_path / "r.json", owe=True) as database:
        database.append(record("t1"), lease_id="l1")
        poster = Poster(client(server), database, max_backoff=3600, ended=lambda: None)
        poster.start()
        until(lambda: len(server.requests) == 1)
        poster.stop()
        assert database.owed_count() == 1
    with Database(tmp_path / "r.json", owe=True) as database:
        poster = Poster(client(server), database, max_backoff=1, ended=lambda: None)
        poster.start()
        until(lambda: database.owed_count() == 0)
        poster.stop()
    assert keys(server) == ["t1", "t1"]
    assert [r.headers["X-Lease-Id"] for r in server.requests] == ["l1", "l1"]


def test_a_refusal_for_good_is_noted_and_never_posted_again(
    server: ScriptedServer, database: Database
) -> None:
    refusal = Reply(422, b"no such thing", {"Content-Type": "text/plain"})
    server.script("/results", refusal, Reply(201))
    for task in ("t1", "t2"):
        database.append(record(task))
    poster = Poster(client(server), database, max_backoff=1, ended=lambda: None)
    poster.start()
    until(lambda: database.owed_count() == 0)
    poster.stop()
    assert keys(server) == ["t1", "t2"]
    ((task, reason),) = database.refusals()
    assert task == "t1"
    assert "422" in reason
    assert "no such thing" in reason


def test_one_result_that_always_fails_does_not_hold_up_the_others(
    server: ScriptedServer, database: Database
) -> None:
    def answer(request: Any) -> Reply:
        return Reply(500 if request.headers["Idempotency-Key"] == "bad" else 201)

    server.script("/results", answer)
    for task in ("bad", "t2", "t3"):
        database.append(record(task))
    own = client(server)
    for _ in range(7):
        owed = database.next_owed()
        assert owed is not None
        if owed.task_id == "bad":
            with pytest.raises(RetryLater, match="500"):
                post(own, database, owed)
        else:
            post(own, database, owed)
    assert keys(server) == ["bad"] * 5 + ["t2", "t3"]
    assert database.owed_count() == 1


def test_a_busy_server_counts_against_no_result_and_the_order_stays(
    server: ScriptedServer, database: Database
) -> None:
    server.script("/results", *[Reply(503)] * 8, *[Reply(429)] * 8, Reply(201))
    for task in ("t1", "t2", "t3"):
        database.append(record(task))
    own = client(server)
    for number in range(16 + 3):
        owed = database.next_owed()
        assert owed is not None
        if number < 16:
            with pytest.raises(ServerBusy):
                post(own, database, owed)
        else:
            post(own, database, owed)
    assert keys(server) == ["t1"] * 17 + ["t2", "t3"]


def test_an_outage_counts_against_no_result(database: Database) -> None:
    database.append(record("t1"))
    gone = ServerClient(
        ServerConfig(url="http://127.0.0.1:1", results_path="/results", timeout=2), "w1"
    )
    for _ in range(7):
        owed = database.next_owed()
        assert owed is not None
        assert owed.failures == 0
        with pytest.raises(ServerUnreachable):
            post(gone, database, owed)


def test_a_thread_that_ends_by_itself_says_so_and_its_error_is_not_lost(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = ServerClient(ServerConfig(url="http://127.0.0.1:1", results_path="/r"), "w1")
    monkeypatch.setattr(gone, "post_result", lambda record, lease_id: 1 / 0)
    database.append(record("t1"))
    ended: list[bool] = []
    poster = Poster(gone, database, max_backoff=1, ended=lambda: ended.append(True))
    poster.start()
    until(lambda: bool(ended))
    with pytest.raises(ZeroDivisionError):
        poster.stop()


def backlog_of_20(server: ScriptedServer, database: Database) -> Poster:
    server.script("/results", Reply(201))
    for number in range(20):
        database.append(record(f"t{number}"))
    poster = Poster(client(server), database, max_backoff=1, ended=lambda: None)
    poster.notify()
    poster.start()
    return poster


def test_a_backlog_is_held_back_while_images_come(
    server: ScriptedServer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poster_module, "QUIET", 30.0)
    poster = backlog_of_20(server, database)
    until(lambda: len(server.requests) == 2)
    time.sleep(0.3)
    assert len(server.requests) == 2
    poster.notify()
    until(lambda: len(server.requests) == 4)
    poster.stop()
    assert keys(server) == ["t0", "t1", "t2", "t3"]


def test_a_backlog_is_worked_off_when_no_image_comes(
    server: ScriptedServer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poster_module, "QUIET", 0.1)
    poster = backlog_of_20(server, database)
    until(lambda: database.owed_count() == 0)
    poster.stop()


def test_a_server_that_is_far_away_gets_several_at_once(
    server: ScriptedServer, database: Database
) -> None:
    server.script("/results", Reply(201, delay=0.5))
    for number in range(12):
        database.append(record(f"t{number}"))
    poster = Poster(client(server), database, max_backoff=1, ended=lambda: None, at_once=4)
    started = time.monotonic()
    poster.start()
    until(lambda: database.owed_count() == 0)
    poster.stop()
    assert time.monotonic() - started < 12 * 0.5 * 0.7
    assert sorted(keys(server)) == sorted(f"t{number}" for number in range(12))


def test_of_several_at_once_one_that_fails_is_tried_again_and_the_others_are_not(
    server: ScriptedServer, database: Database
) -> None:
    failed: list[str] = []

    def answer(request: Any) -> Reply:
        key = request.headers["Idempotency-Key"]
        if key == "t1" and not failed:
            failed.append(key)
            return Reply(500)
        return Reply(201)

    server.script("/results", answer)
    for number in range(4):
        database.append(record(f"t{number}"))
    poster = Poster(client(server), database, max_backoff=1, ended=lambda: None, at_once=4)
    poster.start()
    until(lambda: database.owed_count() == 0)
    poster.stop()
    assert sorted(keys(server)) == ["t0", "t1", "t1", "t2", "t3"]
