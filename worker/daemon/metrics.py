"""What the daemon does, counted; served at /, /metrics and /healthz if an address is configured."""

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import prometheus_client as prometheus
from prometheus_client import Counter, Gauge, Histogram

from worker import __version__, errors
from worker.config import Config
from worker.daemon.status_page import POLICY, status_page
from worker.hints import host_and_port
from worker.record import Record, ranked_emotions

FAULTS: dict[type[errors.RetryLater], str] = {
    errors.ServerUnreachable: "unreachable",
    errors.ServerBusy: "busy",
    errors.ServerRefuses: "refused",
    errors.DiskRefuses: "disk",
}
OUTCOMES = ("image", "nothing", *FAULTS.values(), "fault")  # of a poll
STAGES = ("pull", "threshold", "analyze", "store", "post")
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
NAMED = ("named", "unnamed")
Duration = partial(Histogram, buckets=BUCKETS)

# Kind, name, what it says; its label and values of that, which are there before they are counted.
FIGURES: tuple[tuple[Callable[..., Any], str, str, str, tuple[str, ...]], ...] = (
    (Counter, "polls", "polls by what came of them", "outcome", OUTCOMES),
    (Counter, "images", "images by what came of them", "outcome", ("analyzed", "repeated")),
    (Counter, "faces", "faces by whether an emotion reached the threshold", "outcome", NAMED),
    (Duration, "stage_seconds", "duration of one stage of the work", "stage", STAGES),
    (Gauge, "backoff_seconds", "wait after a fault, 0: none", "loop", ("polling", "posting")),
    (Gauge, "threshold", "threshold of the last image that had one", "", ()),
    (Gauge, "last_poll_timestamp_seconds", "end of the last poll", "", ()),
    (Gauge, "last_answer_timestamp_seconds", "end of the last good poll", "", ()),
    (Gauge, "images_in_hand", "images pulled and not yet recorded", "", ()),
    (Gauge, "images_kept", "those of them that wait for something else", "", ()),
    (Gauge, "posts_pending", "results still to post", "", ()),
)

prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The figures, in a registry of their own. Safe to use from several threads.

    ``figures``: those of FIGURES by name. ``latest``: the records that the page shows.
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
        self._outcome, self._completed, self._answered = "none yet", clock(), math.nan
        self.latest: deque[Record] = deque(maxlen=10)
        self.registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=self.registry)
        ours: Any = {"namespace": "emotion_worker", "registry": self.registry}
        facts = {"version": __version__, "network": network}
        prometheus.Info("build", "what runs here", **ours).info(facts)
        self.figures: dict[str, Any] = {}
        for kind, name, words, label, values in FIGURES:
            self.figures[name] = kind(name, words, [label] if label else [], **ours)
            for value in values:
                self.figures[name].labels(value)
        self.figures["threshold"].set(math.nan)

    def polled(self, outcome: str) -> None:
        """A poll is over, one of OUTCOMES."""
        self.figures["polls"].labels(outcome).inc()
        self.figures["last_poll_timestamp_seconds"].set_to_current_time()
        self._outcome, self._completed = outcome, self._clock()
        if outcome in ("image", "nothing"):
            self.figures["last_answer_timestamp_seconds"].set_to_current_time()
            self._answered = self._completed

    def recorded(self, record: Record) -> None:
        """An image's record is on disk."""
        self.latest.append(record)
        error = record.get("error")
        self.figures["images"].labels(error["type"] if error else "analyzed").inc()
        for face in record["faces"]:
            self.figures["faces"].labels("named" if ranked_emotions(face) else "unnamed").inc()
        if record["threshold"] is not None:
            self.figures["threshold"].set(record["threshold"])

    def stage(self, name: str) -> Any:
        """A context manager that measures what is done in it as one of STAGES, also if it fails."""
        return self.figures["stage_seconds"].labels(name).time()

    def value(self, name: str, **labels: str) -> float:
        """A gauge as it stands now."""
        value = self.registry.get_sample_value(f"emotion_worker_{name}", labels)
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
            "backoff_s": round(self.value("backoff_seconds", loop="polling"), 3),
        }


def health_limit(config: Config) -> float:
    """Seconds that a loop in good order never needs for one poll and the wait before it."""
    worker = config.worker
    return 3 * max(worker.poll_interval, worker.max_backoff) + config.server.timeout


@contextmanager
def serve(address: str, metrics: Metrics) -> Iterator[str]:
    """Serve /, /metrics and /healthz at ``address``, as `MetricsConfig` has it; gives the URL.
    Raises UsageError if it cannot listen there."""
    from werkzeug import Response

    from worker.web import WebServer, guard

    figures: Any = prometheus.make_wsgi_app(metrics.registry)

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        path, shown = environ["PATH_INFO"], figures
        if path == "/":
            shown = Response(status_page(metrics), mimetype="text/html")
        elif path == "/healthz":
            healthy, facts = metrics.health()
            status = 200 if healthy else 503
            shown = Response(json.dumps(facts) + "\n", status, mimetype="application/json")
        elif path != "/metrics":
            shown = Response("there are /, /metrics and /healthz\n", 404)
        return shown(environ, start_response)

    host, port = host_and_port(address)
    guarded = guard(answer, POLICY, host=host, exempt=("/metrics", "/healthz"))
    try:
        server = WebServer(guarded, host=host, port=port)
    except errors.UsageError as error:
        raise errors.UsageError(f"[metrics] address = {address}: {error}") from None
    with server:
        yield server.url
