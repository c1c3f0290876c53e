"""The reference server's queue in Redis: several servers share it, and it outlives them.

    emotion:line          a sorted set: task ids by the time (microseconds) from which each may be
                          handed out; what is under lease stands in the future
    emotion:image:<task>  a hash: the image; gone once it is done
    emotion:records       a hash: task id to record
    emotion:done          a list: task ids in the order in which their records came
    emotion:threshold     the one in force

Each change of several keys is one script, so a server may be killed at any moment. Scripts write
first what takes memory: a full Redis then refuses all of it.
"""

from collections.abc import Collection
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from worker.demo_server.image_queue import DEFAULT_THRESHOLD, ImageQueue, QueuedImage
from worker.errors import RetryLater, ServerUnreachable, UsageError

TIMEOUT = 10.0  # seconds, for one command
LINE = "emotion:line"

KEYS = f"""
local line, images, records = "{LINE}", "emotion:image:", "emotion:records"
local done, threshold = "emotion:done", "emotion:threshold"
local time = redis.call("TIME")
local now = time[1] * 1000000 + time[2]
"""
PUT = """
local task, name, type, content, own = unpack(ARGV)
redis.call("HSET", images .. task, "name", name, "type", type, "content", content, "own", own)
redis.call("ZADD", line, now, task)
"""
LEASE = """
local known = {}
for i = 2, #ARGV do known[ARGV[i]] = true end
for _, task in ipairs(redis.call("ZRANGEBYSCORE", line, "-inf", now, "LIMIT", 0, #ARGV)) do
  if not known[task] then
    redis.call("ZADD", line, now + ARGV[1], task)
    return {task, unpack(redis.call("HMGET", images .. task, "name", "type", "content", "own"))}
  end
end
"""
FINISH = """
local task, record = unpack(ARGV)
if redis.call("HEXISTS", records, task) == 1 then return 0 end
if redis.call("EXISTS", images .. task) == 0 then return -1 end
redis.call("HSET", records, task, record)
redis.call("RPUSH", done, task)
redis.call("ZREM", line, task)
redis.call("DEL", images .. task)
return 1
"""
RECORDS = """
local all = {}
for i, task in ipairs(redis.call("LRANGE", done, 0, -1)) do
  all[i] = redis.call("HGET", records, task)
end
return all
"""
COUNTS = """
local open, waiting = redis.call("ZCARD", line), redis.call("ZCOUNT", line, "-inf", now)
return {waiting, open - waiting, redis.call("LLEN", done)}
"""
GET_THRESHOLD = 'return redis.call("GET", threshold)'
SET_THRESHOLD = 'redis.call("SET", threshold, ARGV[1])'


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
        where = self._redis.get_connection_kwargs()
        self.address = where.get("path") or f"{where.get('host')}:{where.get('port', 6379)}"
        self._lease = round(lease_seconds * 1_000_000)
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
        own = "" if image.threshold is None else image.threshold
        self._run(PUT, image.task_id, image.file_name, image.content_type, image.content, own)

    def lease(self, known: Collection[str] = ()) -> QueuedImage | None:
        found = self._run(LEASE, self._lease, *known)
        if not found:
            return None
        task_id, name, kind, content, own = found
        threshold = float(own) if own else None
        return QueuedImage(task_id.decode(), name.decode(), kind.decode(), content, threshold)

    def finish(self, task_id: str, record: str) -> bool:
        stored = self._run(FINISH, task_id, record)
        if stored < 0:
            raise KeyError(task_id)
        return bool(stored)

    def records(self) -> list[str]:
        return [text.decode() for text in self._run(RECORDS)]

    def counts(self) -> dict[str, int]:
        return dict(zip(("waiting", "leased", "done"), self._run(COUNTS), strict=True))

    def _run(self, script: str, *values: object) -> Any:
        """Run a script as one change. Raises RetryLater when Redis is gone, full or restarting."""
        try:
            return self._redis.eval(KEYS + script, 0, *values)
        except RedisError as error:
            raise RetryLater(f"the queue in Redis at {self.address}: {error}") from error
