"""What the daemon does, counted; served at /, /metrics and /healthz if an address is configured."""

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import prometheus_client as prometheus

from worker import __version__, errors
from worker.config import Config
from worker.daemon.status_page import POLICY, status_page
from worker.record import EMOTIONS, Record

FAULTS: dict[type[errors.RetryLater], str] = {
    errors.ServerUnreachable: "unreachable",
    errors.ServerBusy: "busy",
    errors.ServerRefuses: "refused",
    errors.DiskRefuses: "disk",
}
OUTCOMES = ("image", "nothing", *FAULTS.values(), "fault")  # of a poll
STAGES = ("pull", "threshold", "analyze", "store", "post")
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The figures, in a registry of their own. Safe to use from several threads.

    ``network``: the name that records carry. ``limit``: seconds without a completed poll after
    which the daemon counts as unhealthy. ``clock``: monotonic seconds.
    """

    def __init__(
        self,
        network: str = "",
        limit: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.network, self.limit, self._clock = network, limit, clock
        self._outcome, self._wait = "none yet", 0.0  # of the last poll
        self._completed, self._answered = clock(), math.nan
        self.latest: deque[Record] = deque(maxlen=10)  # for the page
        self.registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=self.registry)
        ours: Any = {"namespace": "emotion_worker", "registry": self.registry}
        counter, gauge = prometheus.Counter, prometheus.Gauge
        self.polls = counter("polls", "polls by what came of them", ["outcome"], **ours)
        self.images = counter("images", "images by what came of them", ["outcome"], **ours)
        what = "faces by whether an emotion reached the threshold"
        self.faces = counter("faces", what, ["outcome"], **ours)
        what = "duration of one stage of the work"
        self.stages = prometheus.Histogram(
            "stage_seconds", what, ["stage"], buckets=BUCKETS, **ours
        )
        self.backoff = gauge("backoff_seconds", "wait after a fault, 0: none", ["loop"], **ours)
        self.threshold = gauge("threshold", "threshold of the last image that had one", **ours)
        self.last_poll = gauge("last_poll_timestamp_seconds", "end of the last poll", **ours)
        self.last_answer = gauge("last_answer_timestamp_seconds", "last good poll", **ours)
        self.in_hand = gauge("images_in_hand", "images pulled and not yet recorded", **ours)
        self.kept = gauge("images_kept", "those of them that wait for something else", **ours)
        self.pending = gauge("posts_pending", "results still to post", **ours)
        facts = {"version": __version__, "network": network}
        prometheus.Info("build", "what runs here", **ours).info(facts)
        self.threshold.set(math.nan)
        for figures, labels in (
            (self.polls, OUTCOMES),
            (self.images, ("analyzed", "repeated")),
            (self.faces, ("named", "unnamed")),
            (self.stages, STAGES),
            (self.backoff, ("polling", "posting")),
        ):
            for label in labels:  # so that each is there before it is counted up
                figures.labels(label)

    def polled(self, outcome: str, wait: float = 0) -> None:
        """A poll is over, one of OUTCOMES; ``wait``: seconds of back-off that follow."""
        self.polls.labels(outcome).inc()
        self.backoff.labels("polling").set(wait)
        self.last_poll.set_to_current_time()
        self._outcome, self._completed, self._wait = outcome, self._clock(), wait
        if outcome in ("image", "nothing"):
            self.last_answer.set_to_current_time()
            self._answered = self._completed

    def recorded(self, record: Record) -> None:
        """An image's record is on disk."""
        self.latest.append(record)
        error = record.get("error")
        self.images.labels(error["type"] if error else "analyzed").inc()
        for face in record["faces"]:
            self.faces.labels("unnamed" if set(EMOTIONS).isdisjoint(face) else "named").inc()
        if record["threshold"] is not None:
            self.threshold.set(record["threshold"])

    def stage(self, name: str) -> AbstractContextManager[object]:
        """Measure what is done inside as one of STAGES, also if it fails."""
        return self.stages.labels(name).time()

    def figure(self, name: str) -> float:
        """A gauge as it stands now, by its name without the prefix."""
        value = self.registry.get_sample_value(f"emotion_worker_{name}")
        assert value is not None, f"there is no gauge {name}"
        return value

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether the loop goes round, and the facts. A server that is down is no fault of it."""
        now = self._clock()
        age, answered = now - self._completed, now - self._answered
        return age <= self.limit, {
            "status": "ok" if age <= self.limit else "stalled",
            "last_poll_age_s": round(age, 3),
            "limit_s": self.limit,
            "last_poll": self._outcome,
            "last_answer_age_s": None if math.isnan(answered) else round(answered, 3),
            "backoff_s": round(self._wait, 3),
        }


def health_limit(config: Config) -> float:
    """Seconds that a loop in good order never needs for one poll and the wait before it."""
    worker = config.worker
    return 3 * max(worker.poll_interval, worker.max_backoff) + config.server.timeout


@contextmanager
def serve(address: str, metrics: Metrics) -> Iterator[str]:
    """Serve /, /metrics and /healthz at ``address``, as `MetricsConfig` has it, or do nothing if it
    is empty; gives the URL. Raises UsageError if it cannot listen there."""
    if not address:
        yield ""
        return
    from worker.web import WebServer, guard

    show: Any = prometheus.make_wsgi_app(metrics.registry)

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path, facts = environ["PATH_INFO"], {"error": "there are /, /metrics and /healthz"}
        if path == "/metrics":
            metrics_page: Iterable[bytes] = show(environ, start_response)
            return metrics_page
        if path == "/":
            start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
            return [status_page(metrics)]
        status = "404 Not Found"
        if path == "/healthz":
            healthy, facts = metrics.health()
            status = "200 OK" if healthy else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(facts).encode() + b"\n"]

    host, _, port = address.rpartition(":")
    try:
        host = host.strip("[]")
        guarded = guard(answer, POLICY, host=host, exempt=("/metrics", "/healthz"))
        server = WebServer(guarded, host=host, port=int(port))
    except errors.UsageError as error:
        raise errors.UsageError(f"[metrics] address = {address}: {error}") from None
    with server:
        yield server.url
