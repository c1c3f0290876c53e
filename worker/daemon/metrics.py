"""What the daemon does, counted; served at /metrics and /healthz where an address is configured.

Counting costs next to nothing and is always on. The Prometheus client turns the counts into its
format when it is asked, and is imported only where [metrics] address is set.
"""

import json
import logging
import math
import sys
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from socket import AF_INET, AF_INET6
from socketserver import ThreadingTCPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from worker import __version__
from worker.config import Config
from worker.errors import (
    DiskRefuses,
    RetryLater,
    ServerBusy,
    ServerRefuses,
    ServerUnreachable,
    UsageError,
)
from worker.record import EMOTIONS, Record

if TYPE_CHECKING:
    from prometheus_client import Metric

logger = logging.getLogger(__name__)

FAULTS: dict[type[RetryLater], str] = {
    ServerUnreachable: "unreachable",
    ServerBusy: "busy",
    ServerRefuses: "refused",
    DiskRefuses: "disk",
}
OUTCOMES = ("image", "nothing", *FAULTS.values(), "fault")  # of a poll
STAGES = ("pull", "threshold", "analyze", "store", "post")
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, math.inf)
MAX_QUIET = 10  # seconds; a client that sends no request is hung up on


class Monitor:
    """The counts. Any thread writes, any reads.

    ``limit``: seconds without a completed poll after which the daemon counts as unhealthy.
    """

    def __init__(self, limit: float = math.inf, network: str = "") -> None:
        self.limit = limit
        self.network = network
        self.polls = Counter(dict.fromkeys(OUTCOMES, 0))
        self.images = Counter({"analyzed": 0, "repeated": 0})
        self.faces = Counter({"named": 0, "unnamed": 0})
        self.in_hand: Callable[[], int] = lambda: 0  # images pulled whose record is not on disk yet
        self.threshold: float | None = None
        self.backoff = {"polling": 0.0, "posting": 0.0}  # seconds; 0: no wait after a fault
        self.stages = {name: [0] * len(BUCKETS) for name in STAGES}
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.last_outcome = "none yet"
        self.last_poll = 0.0  # both: seconds since 1970, 0: never
        self.last_answer = 0.0
        self._completed = time.monotonic()
        self._lock = threading.Lock()

    def polled(self, outcome: str, wait: float = 0) -> None:
        """A poll is over, one of OUTCOMES; ``wait``: seconds of back-off that follow."""
        with self._lock:
            self.polls[outcome] += 1
            self.last_outcome = outcome
            self.last_poll = time.time()
            if outcome in ("image", "nothing"):
                self.last_answer = self.last_poll
            self.backoff["polling"] = wait
            self._completed = time.monotonic()

    def repeated(self) -> None:
        """An image was offered that is recorded already."""
        with self._lock:
            self.images["repeated"] += 1

    def recorded(self, record: Record) -> None:
        """An image's record is on disk."""
        error = record.get("error")
        with self._lock:
            self.images[error["type"] if error else "analyzed"] += 1
            for face in record["faces"]:
                self.faces["unnamed" if set(EMOTIONS).isdisjoint(face) else "named"] += 1
            if record["threshold"] is not None:
                self.threshold = record["threshold"]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what is done inside as one of STAGES, also where it fails."""
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            with self._lock:
                self.stages[name][bisect_left(BUCKETS, elapsed)] += 1
                self.seconds[name] += elapsed

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether the loop goes round, and the facts. A server that is down is no fault of it."""
        age = time.monotonic() - self._completed
        healthy = age <= self.limit
        return healthy, {
            "status": "ok" if healthy else "stalled",
            "last_poll_age_s": round(age, 3),
            "limit_s": self.limit,
            "last_poll": self.last_outcome,
            "last_answer_age_s": round(time.time() - self.last_answer, 3)
            if self.last_answer
            else None,
            "backoff_s": round(self.backoff["polling"], 3),
        }


def health_limit(config: Config) -> float:
    """Seconds that a loop in good order never needs for one poll and the wait before it."""
    worker = config.worker
    return 3 * max(worker.poll_interval, worker.max_backoff) + config.server.timeout


def outcome_of(error: RetryLater) -> str:
    """The one of OUTCOMES that a poll with this error had."""
    return FAULTS.get(type(error), "fault")


@contextmanager
def serve(address: str, monitor: Monitor, pending: Callable[[], int]) -> Iterator[str]:
    """Serve /metrics and /healthz from a thread at ``address``, as `MetricsConfig` has it, or do
    nothing where it is empty; gives the URL. ``pending``: how many results are still to post.

    Raises UsageError where it cannot listen there.
    """
    if not address:
        yield ""
        return
    from prometheus_client import CollectorRegistry, MetricsHandler, ProcessCollector

    class Handler(MetricsHandler):
        timeout = MAX_QUIET

        def do_GET(self) -> None:  # noqa: N802 - http.server calls it so
            match urlsplit(self.path).path:
                case "/metrics":
                    super().do_GET()
                case "/healthz":
                    healthy, facts = monitor.health()
                    self._answer(200 if healthy else 503, facts)
                case _:
                    self._answer(404, {"error": "there are /metrics and /healthz"})

        def _answer(self, status: int, document: dict[str, Any]) -> None:
            body = json.dumps(document).encode() + b"\n"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    class Server(ThreadingTCPServer):  # an HTTPServer would look its own name up in the DNS
        allow_reuse_address = True
        daemon_threads = True
        address_family = AF_INET6 if address.startswith("[") else AF_INET

        def handle_error(self, *_: object) -> None:
            error = sys.exception()
            if not isinstance(error, ConnectionError | TimeoutError):  # a client that hung up
                logger.error("[metrics] a request could not be answered: %r", error)

    host, _, port = address.rpartition(":")
    try:
        server = Server((host.strip("[]"), int(port)), Handler)
    except OSError as error:
        problem = error.strerror or error
        raise UsageError(f"[metrics] address = {address}: cannot listen there: {problem}") from None
    registry = Handler.registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Collector(monitor, pending))
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class _Collector:
    """Gives the Prometheus client the counts as they are at this moment."""

    def __init__(self, monitor: Monitor, pending: Callable[[], int]) -> None:
        self._monitor = monitor
        self._pending = pending

    def collect(self) -> Iterator["Metric"]:
        from prometheus_client import core

        now, prefix = self._monitor, "emotion_worker_"
        for name, what, label, values in (
            ("polls", "polls by what came of them", "outcome", now.polls),
            ("images", "images by what came of them", "outcome", now.images),
            ("faces", "faces by whether an emotion reached the threshold", "outcome", now.faces),
        ):
            counter = core.CounterMetricFamily(prefix + name, what, labels=[label])
            for key, value in list(values.items()):
                counter.add_metric([key], value)
            yield counter
        stages = core.HistogramMetricFamily(
            prefix + "stage_seconds", "duration of one stage of the work", labels=["stage"]
        )
        for stage, counts in now.stages.items():
            bounds = ["+Inf" if bound == math.inf else str(bound) for bound in BUCKETS]
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            stages.add_metric([stage], buckets, now.seconds[stage])
        yield stages
        backoff = core.GaugeMetricFamily(
            prefix + "backoff_seconds", "wait after the last fault, 0: none", labels=["loop"]
        )
        for loop, wait in now.backoff.items():
            backoff.add_metric([loop], wait)
        yield backoff
        threshold = math.nan if now.threshold is None else now.threshold
        for name, what, figure in (
            ("images_in_hand", "images pulled and not yet recorded", now.in_hand()),
            ("posts_pending", "results still to post", self._pending()),
            ("threshold", "threshold of the last image that had one", threshold),
            ("last_poll_timestamp_seconds", "end of the last poll, 0: none", now.last_poll),
            ("last_answer_timestamp_seconds", "last good poll, 0: none", now.last_answer),
        ):
            yield core.GaugeMetricFamily(prefix + name, what, figure)
        facts = {"version": __version__, "network": now.network}
        yield core.InfoMetricFamily(prefix + "build", "what runs here", facts)
