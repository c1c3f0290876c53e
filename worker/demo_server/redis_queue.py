"""The reference server's queue in Redis: several servers share it, and it outlives them.

    emotion:line          a sorted set: task ids by the time (microseconds) from which each may be
                          handed out; what is under lease stands in the future
    emotion:image:<task>  name, type and threshold in a line of JSON, then the image's bytes
    emotion:results       a list: the records in the order in which they came
    emotion:finished      a set: the task ids of these records
    emotion:threshold     the one in force

Each change of several keys is one script, so a server may be killed at any moment. Scripts write
first what takes memory: a full Redis then refuses all of it.
"""

import json
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from worker.demo_server.image_queue import DEFAULT_THRESHOLD, ImageQueue, QueuedImage
from worker.errors import RetryLater, ServerUnreachable, UsageError

TIMEOUT = 10.0  # seconds, for one command
LINE = "emotion:line"

KEYS = f"""
local line, image = "{LINE}", "emotion:image:"
local results, finished = "emotion:results", "emotion:finished"
local time = redis.call("TIME")
local now = time[1] * 1000000 + time[2]
"""
PUT = """
redis.call("SET", image .. ARGV[1], ARGV[2])
redis.call("ZADD", line, now, ARGV[1])
"""
LEASE = """
local task = redis.call("ZRANGEBYSCORE", line, "-inf", now, "LIMIT", 0, 1)[1]
if not task then return nil end
redis.call("ZADD", line, now + ARGV[1], task)
return {task, redis.call("GET", image .. task)}
"""
FINISH = """
local task, record = unpack(ARGV)
if redis.call("SISMEMBER", finished, task) == 1 then return 0 end
if redis.call("EXISTS", image .. task) == 0 then return nil end
redis.call("RPUSH", results, record)
redis.call("SADD", finished, task)
redis.call("ZREM", line, task)
redis.call("DEL", image .. task)
return 1
"""
RECORDS = 'return redis.call("LRANGE", results, 0, -1)'
COUNTS = """
local open, waiting = redis.call("ZCARD", line), redis.call("ZCOUNT", line, "-inf", now)
return {waiting, open - waiting, redis.call("LLEN", results)}
"""
GET_THRESHOLD = 'return redis.call("GET", "emotion:threshold")'
SET_THRESHOLD = 'redis.call("SET", "emotion:threshold", ARGV[1])'


class RedisQueue(ImageQueue):
    """A queue in the Redis server at ``url``, as redis://host:6379/0, rediss:// or unix://.

    ``threshold``: 0..1, put in force at once; None: what is in force stays so.
    ``lease_seconds`` is how long a worker has for one image. Raises UsageError for a wrong URL,
    ServerUnreachable when nothing that can serve as a queue answers there.
    """

    def __init__(
        self, url: str, *, threshold: float | None = None, lease_seconds: float = 60.0
    ) -> None:
        # Its own types leave open whether an answer is bytes or text; here it is bytes.
        self._redis: Any
        try:
            self._redis = Redis.from_url(
                url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, protocol=2
            )
        except ValueError as error:
            raise UsageError(f"--queue: {error}") from error
        self._lease_time = round(lease_seconds * 1_000_000)
        try:
            self.counts()
            if threshold is not None:
                self.threshold = threshold
        except RetryLater as error:
            raise ServerUnreachable(f"--queue: {error}") from error

    @property
    def threshold(self) -> float:
        return float(self._run(GET_THRESHOLD) or DEFAULT_THRESHOLD)

    @threshold.setter
    def threshold(self, threshold: float) -> None:
        self._run(SET_THRESHOLD, threshold)

    def put(self, image: QueuedImage) -> None:
        described = json.dumps([image.file_name, image.content_type, image.threshold])
        self._run(PUT, image.task_id, described.encode() + b"\n" + image.content)

    def lease(self) -> QueuedImage | None:
        if (found := self._run(LEASE, self._lease_time)) is None:
            return None
        described, _, content = found[1].partition(b"\n")
        name, kind, threshold = json.loads(described)
        return QueuedImage(found[0].decode(), name, kind, threshold, content)

    def finish(self, task_id: str, record: str) -> bool | None:
        stored = self._run(FINISH, task_id, record)
        return None if stored is None else bool(stored)

    def records(self) -> list[str]:
        return [text.decode() for text in self._run(RECORDS)]

    def counts(self) -> dict[str, int]:
        return dict(zip(("waiting", "leased", "done"), self._run(COUNTS), strict=True))

    def _run(self, script: str, *values: object) -> Any:
        """Run a script as one change. Raises RetryLater when Redis is gone, full or restarting."""
        try:
            return self._redis.eval(KEYS + script, 0, *values)
        except RedisError as error:
            raise RetryLater(f"the queue in Redis: {error}") from error
