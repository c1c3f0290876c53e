"""The queue in Redis beyond what the other files ask of every queue: several servers share it,
it outlives them and a restart of Redis, and when Redis cannot serve, nothing is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from redis import Redis

from tests.demo_server.requests_to_it import JPEG, get, post, pull, record_of
from tests.processes import run_worker
from tests.redis_server import RedisServer, redis_server
from worker.demo_server.app import create_app
from worker.demo_server.redis_queue import RedisQueue
from worker.errors import RetryLater, ServerUnreachable, UsageError
from worker.web import WebServer


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


def test_two_servers_hand_out_of_one_line_and_know_each_others_results(broker: RedisServer) -> None:
    # Given
    first, second = RedisQueue(broker.url, threshold=0.2), RedisQueue(broker.url)
    tasks = [first.add(JPEG, "a.jpg", threshold=0.1), second.add(JPEG, "b.jpg")]
    with WebServer(create_app(first)) as one, WebServer(create_app(second)) as other:
        # When
        pulled = [pull(url).headers["X-Task-Id"] for url in (one.url, other.url)]
        answers = [post(url, record_of(tasks[0])).status_code for url in (other.url, one.url)]
        # Then
        assert pulled == tasks
        assert answers == [201, 409]
        assert get(one.url)["leased"] == get(other.url)["leased"] == 1
        assert get(f"{other.url}/threshold") == {"threshold": 0.2}


def test_the_line_outlives_its_servers_and_a_restart_of_redis(broker: RedisServer) -> None:
    # Given
    queue = RedisQueue(broker.url, threshold=0.2, lease_seconds=0.001)
    tasks = [queue.add(JPEG, f"{number}.jpg") for number in range(3)]
    queue.lease()
    queue.finish(tasks[1], "{}")
    # When
    broker.stop()
    broker.start()
    # Then
    again = RedisQueue(broker.url, lease_seconds=60)
    assert (again.threshold, again.records()) == (0.2, ["{}"])
    assert {image.task_id for image in iter(again.lease, None)} <= {tasks[0], tasks[2]}


def test_while_redis_is_away_the_server_says_so_and_then_goes_on(broker: RedisServer) -> None:
    # Given
    queue = RedisQueue(broker.url)
    task_id = queue.add(JPEG, "a.jpg")
    with WebServer(create_app(queue)) as server:
        # When
        broker.stop()
        answers = [
            pull(server.url),
            post(server.url, record_of(task_id)),
            requests.get(f"{server.url}/threshold", timeout=10),
        ]
        broker.start()
        # Then
        assert [answer.status_code for answer in answers] == [503] * 3
        assert {answer.headers["Retry-After"] for answer in answers} == {"1"}
        assert pull(server.url).headers["X-Task-Id"] == task_id
        assert post(server.url, record_of(task_id)).status_code == 201


def test_a_full_redis_takes_no_image_and_no_result_and_loses_none(broker: RedisServer) -> None:
    # Given
    queue = RedisQueue(broker.url)
    task_id = queue.add(JPEG, "a.jpg")
    with WebServer(create_app(queue)) as server, Redis.from_url(broker.url) as redis:
        # When
        redis.config_set("maxmemory", "1")
        with pytest.raises(RetryLater):
            queue.add(JPEG, "b.jpg")
        answer = post(server.url, record_of(task_id))
        redis.config_set("maxmemory", "0")
        # Then
        assert answer.status_code == 503
        assert get(server.url) == {"waiting": 1, "leased": 0, "done": 0, "openapi": "/openapi.json"}
        assert post(server.url, record_of(task_id)).status_code == 201
        assert get(server.url)["done"] == 1


@pytest.mark.parametrize("url", ["127.0.0.1:6379", "http://127.0.0.1:6379", "redis://127.0.0.1:x"])
def test_what_is_no_url_of_redis_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="--queue"):
        RedisQueue(url)


def test_no_redis_at_the_url_is_said_with_its_address(tmp_path: Path) -> None:
    done = run_worker(tmp_path, "demo-server", "--queue", "redis://:s3cret@127.0.0.1:9/0")
    assert done.returncode == 3
    assert "127.0.0.1:9" in done.stderr
    assert "s3cret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_what_answers_but_cannot_be_a_queue_is_said(broker: RedisServer) -> None:
    with Redis.from_url(broker.url) as redis:
        redis.set("emotion:line", "of another program")
    with pytest.raises(ServerUnreachable, match="WRONGTYPE"):
        RedisQueue(broker.url)


def test_other_machines_are_let_in_only_with_a_token(tmp_path: Path) -> None:
    done = run_worker(tmp_path, "demo-server", "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "WORKER_SERVER_TOKEN" in done.stderr
