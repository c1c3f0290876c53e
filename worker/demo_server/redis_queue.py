"""The reference server's queue in Redis: several servers share it, and it outlives them.

    emotion:line          a stream of task ids in the order of the line; what its group `servers`
                          has read and not acknowledged is under lease
    emotion:image:<task>  a hash: the image, and its entry in the line; gone once it is done
    emotion:records       a hash: task id to record
    emotion:done          a list: task ids in the order in which their records came
    emotion:threshold     the one in force

Each change of several keys is one transaction, so a server may be killed at any moment.
"""

from collections.abc import Callable, Container
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from worker.demo_server.image_queue import DEFAULT_THRESHOLD, ImageQueue, QueuedImage
from worker.errors import RetryLater, ServerUnreachable, UsageError

LINE, RECORDS, DONE, THRESHOLD = (
    f"emotion:{name}" for name in ("line", "records", "done", "threshold")
)
GROUP = "servers"
CONSUMER = "any"  # a lease belongs to no server: each hands on what another one gave out
TIMEOUT = 10.0  # seconds, for one command

# Only inside Redis is an entry's id known before another server can see the entry.
JOIN = """
local entry = redis.call("XADD", KEYS[1], "*", "task", ARGV[1])
redis.call("HSET", KEYS[2], "entry", entry)
"""

P = ParamSpec("P")
T = TypeVar("T")


def _reporting(
    method: Callable[Concatenate["RedisQueue", P], T],
) -> Callable[Concatenate["RedisQueue", P], T]:
    """Says that Redis is at fault where it is: gone, full, restarting."""

    @wraps(method)
    def call(self: "RedisQueue", /, *values: P.args, **named: P.kwargs) -> T:
        try:
            return method(self, *values, **named)
        except RedisError as error:
            raise RetryLater(f"the queue in Redis at {self.address}: {error}") from error

    return call


class RedisQueue(ImageQueue):
    """A queue in the Redis server at ``url``, as redis://host:6379/0, rediss:// or unix://.

    ``threshold``: 0..1, put in force at once; None: what is in force stays so.
    ``lease_seconds`` is how long a worker has for one image. Raises UsageError for a wrong URL,
    ServerUnreachable where nothing that can serve as a queue answers there.
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
        self._lease_ms = max(1, round(lease_seconds * 1000))
        try:
            if threshold is not None:
                self._redis.set(THRESHOLD, threshold)
            self._redis.xgroup_create(LINE, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):  # it was made by another server, or earlier
                raise ServerUnreachable(f"--queue: {self.address}: {error}") from error
        except RedisError as error:
            raise ServerUnreachable(f"--queue: {self.address}: {error}") from error

    @property
    @_reporting
    def threshold(self) -> float:
        return float(self._redis.get(THRESHOLD) or DEFAULT_THRESHOLD)

    @threshold.setter
    @_reporting
    def threshold(self, threshold: float) -> None:
        self._redis.set(THRESHOLD, threshold)

    @_reporting
    def put(self, image: QueuedImage) -> None:
        fields = {
            "file_name": image.file_name,
            "content_type": image.content_type,
            "content": image.content,
            "threshold": "" if image.threshold is None else image.threshold,
        }
        with self._redis.pipeline() as together:
            together.hset(_key(image.task_id), mapping=fields)
            _join_line(together, image.task_id)
            together.execute()

    @_reporting
    def lease(self, known: Container[str] = ()) -> QueuedImage | None:
        self._hand_on()
        passed_over: list[bytes] = []
        try:
            while found := self._redis.xreadgroup(GROUP, CONSUMER, {LINE: ">"}, count=1):
                [[_, [(entry, fields)]]] = found
                task_id = fields[b"task"].decode()
                if task_id in known:
                    passed_over.append(entry)
                elif image := self._redis.hgetall(_key(task_id)):
                    return _image(task_id, image)
        finally:
            if passed_over:  # as leases that have run out: the next call puts them in line again
                self._redis.xclaim(
                    LINE, GROUP, CONSUMER, 0, passed_over, idle=self._lease_ms, justid=True
                )
        return None

    @_reporting
    def finish(self, task_id: str, record: str) -> bool:
        def finish(together: Any) -> bool:
            entry = together.hget(_key(task_id), "entry")
            known = entry is not None or together.hexists(RECORDS, task_id)
            together.multi()
            if entry is None:
                if not known:
                    raise KeyError(task_id)
                return False
            together.hset(RECORDS, task_id, record)
            together.rpush(DONE, task_id)
            together.delete(_key(task_id))
            _leave_line(together, entry)
            return True

        # Begun anew where another server touches the task in between.
        stored: bool = self._redis.transaction(finish, _key(task_id), value_from_callable=True)
        return stored

    @_reporting
    def records(self) -> list[str]:
        done = self._redis.lrange(DONE, 0, -1)
        return [text.decode() for text in self._redis.hmget(RECORDS, done)] if done else []

    @_reporting
    def counts(self) -> dict[str, int]:
        self._hand_on()
        with self._redis.pipeline() as together:
            together.xlen(LINE)
            together.xpending(LINE, GROUP)
            together.llen(DONE)
            open_, pending, done = together.execute()
        leased = pending["pending"]
        return {"waiting": open_ - leased, "leased": leased, "done": done}

    def _hand_on(self) -> None:
        """Put the images whose leases ran out at the end of the line."""
        while expired := self._redis.xautoclaim(LINE, GROUP, CONSUMER, self._lease_ms)[1]:
            for entry, fields in expired:
                task_id = fields[b"task"].decode()

                def move(together: Any, entry: bytes = entry, task_id: str = task_id) -> None:
                    still = together.hget(_key(task_id), "entry") == entry
                    together.multi()
                    _leave_line(together, entry)
                    if still:  # else it was finished in this very moment
                        _join_line(together, task_id)

                self._redis.transaction(move, _key(task_id))


def _key(task_id: str) -> str:
    return f"emotion:image:{task_id}"


def _join_line(together: Any, task_id: str) -> None:
    together.eval(JOIN, 2, LINE, _key(task_id), task_id)


def _leave_line(together: Any, entry: bytes) -> None:
    together.xack(LINE, GROUP, entry)
    together.xdel(LINE, entry)


def _image(task_id: str, fields: dict[bytes, bytes]) -> QueuedImage:
    own = fields[b"threshold"]
    return QueuedImage(
        task_id,
        fields[b"file_name"].decode(),
        fields[b"content_type"].decode(),
        fields[b"content"],
        float(own) if own else None,
    )
