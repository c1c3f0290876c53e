"""Each test of the reference server runs on each queue."""

from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from tests.demo_server.requests_to_it import (
    LEASE,
    Clock,
)
from tests.redis_server import RedisServer, redis_server
from worker.demo_server.app import create_app
from worker.demo_server.image_queue import ImageQueue, MemoryQueue
from worker.demo_server.redis_queue import LINE, RedisQueue
from worker.web import WebServer


class RedisClock(Clock):
    """Makes each lease in a real Redis server older, as time would."""

    def __init__(self, redis: Redis) -> None:
        super().__init__()
        self._redis: Any = redis

    def advance(self, seconds: float) -> None:
        whole, part = self._redis.time()
        now = whole * 1_000_000 + part
        for task, until in self._redis.zrange(LINE, 0, -1, withscores=True):
            if until > now:
                self._redis.zadd(LINE, {task: until - seconds * 1_000_000})


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
def queue_and_clock(request: pytest.FixtureRequest) -> Iterator[tuple[ImageQueue, Clock]]:
    """Each test runs on each queue; the Redis one is empty and of its own."""
    if request.param == "memory":
        clock = Clock()
        yield MemoryQueue(threshold=0.35, lease_seconds=LEASE, clock=clock), clock
    else:
        url = request.getfixturevalue("broker").url
        with Redis.from_url(url) as redis:
            redis.flushall()
            yield RedisQueue(url, threshold=0.35, lease_seconds=LEASE), RedisClock(redis)


@pytest.fixture
def queue(queue_and_clock: tuple[ImageQueue, Clock]) -> ImageQueue:
    return queue_and_clock[0]


@pytest.fixture
def clock(queue_and_clock: tuple[ImageQueue, Clock]) -> Clock:
    return queue_and_clock[1]


@pytest.fixture
def url(queue: ImageQueue) -> Iterator[str]:
    with WebServer(create_app(queue)) as server:
        yield server.url
