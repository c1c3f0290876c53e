"""/metrics and /healthz as a monitoring system sees them: real daemon, real requests."""

import json
import math
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.daemon.played import Clock, PlayedAnalysts, configure, image, until
from tests.daemon.running import Daemon
from tests.processes import run_worker
from tests.scripted_server import Reply, ScriptedServer
from worker.config import PROJECT, load_config
from worker.daemon.metrics import FAULTS, OUTCOMES, STAGES, Metrics, health_limit, serve
from worker.errors import (
    DiskRefuses,
    RetryLater,
    ServerBusy,
    ServerRefuses,
    ServerUnreachable,
    UsageError,
)

ANYWHERE = "metrics.address=127.0.0.1:0"
LOCAL = "127.0.0.1:0"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        scripted.script("/threshold", Reply(body=b"0.2"))
        scripted.script("/image", Reply(204))
        yield scripted


def address(caplog: pytest.LogCaptureFixture) -> str:
    """Where the daemon of this test serves, as it says before anything else happens."""
    until(lambda: "serving http" in caplog.text)
    found = re.search(r"serving (\S+)/metrics", caplog.text)
    assert found
    return found[1]


def samples(url: str) -> dict[str, float]:
    """Each figure of /metrics under `name`, or `name label value`."""
    figures = {}
    for family in text_string_to_metric_families(requests.get(f"{url}/metrics", timeout=30).text):
        for sample in family.samples:
            name = sample.name.removeprefix("emotion_worker_")
            figures[" ".join([name, *map(" ".join, sample.labels.items())])] = sample.value
    return figures


def test_metrics_show_what_the_daemon_did(
    server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "worker")
    broken = Reply(headers={"Content-Type": "image/png", "X-Task-Id": "t2"})
    answers = (image("t1"), broken, image("t1"), Reply(503), Reply(500), Reply(204))
    server.script("/image", *answers)
    server.script("/results", Reply(503, headers={"Retry-After": "3600"}))
    # One poll at a time, so that it is known which answer comes when; and the post fails once.
    flags = ("server.results_path=/results", "worker.prefetch=0", ANYWHERE)
    config = configure(tmp_path, server.url, *flags, "worker.max_backoff=3600")
    with Daemon(config, PlayedAnalysts()) as daemon:
        url = address(caplog)
        daemon.until(lambda: samples(url)["backoff_seconds loop posting"] == 3600)
        daemon.until(lambda: samples(url)["images_total outcome repeated"] == 1)
        seen = samples(url)
    assert seen["polls_total outcome image"] == 2
    assert seen["polls_total outcome fault"] == 1  # an offer whose result is not taken
    assert seen["images_total outcome analyzed"] == 1
    assert seen["images_total outcome empty"] == 1
    assert seen["faces_total outcome named"] + seen["faces_total outcome unnamed"] == 1
    assert seen["threshold"] == 0.2
    assert seen["posts_pending"] == 2
    assert seen["images_in_hand"] == seen["images_kept"] == 0
    assert seen["backoff_seconds loop polling"] == 0
    assert seen["stage_seconds_count stage pull"] == 3
    assert seen["stage_seconds_count stage threshold"] == 1
    assert seen["stage_seconds_count stage analyze"] == 1
    assert seen["stage_seconds_count stage store"] == 2
    assert seen["stage_seconds_count stage post"] == 1
    assert seen["stage_seconds_bucket le +Inf stage store"] == 2
    assert abs(seen["last_poll_timestamp_seconds"] - time.time()) < 100
    assert abs(seen["last_answer_timestamp_seconds"] - time.time()) < 100
    assert [name for name in seen if name.startswith("build_info") and "emotion_net" in name]
    assert seen["process_open_fds"] > 3


def test_faults_are_counted_by_kind_and_kept_images_are_shown(
    server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "worker")
    server.script("/image", Reply(503), Reply(500), Reply(404), image("t1"), Reply(204))
    server.script("/threshold", Reply(body=b"none"))
    with Daemon(configure(tmp_path, server.url, ANYWHERE), PlayedAnalysts()) as daemon:
        url = address(caplog)
        daemon.until(lambda: samples(url)["polls_total outcome fault"] >= 3)
        seen = samples(url)
        # It is not kept at the moments in which its threshold is asked for again.
        daemon.until(lambda: samples(url)["images_kept"] == 1)
    assert seen["polls_total outcome busy"] == seen["polls_total outcome refused"] == 1
    assert seen["images_in_hand"] == 1


def test_a_server_that_is_down_is_shown_and_does_not_make_the_worker_unhealthy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "worker")
    config = configure(tmp_path, "http://127.0.0.1:1", ANYWHERE, "worker.max_backoff=60")
    with Daemon(config, PlayedAnalysts()) as daemon:
        url = address(caplog)
        daemon.until(lambda: samples(url)["polls_total outcome unreachable"] >= 2)
        answer = requests.get(f"{url}/healthz", timeout=30)
        figures = samples(url)
    assert answer.status_code == 200
    facts = answer.json()
    assert (facts["status"], facts["last_poll"]) == ("ok", "unreachable")
    assert facts["last_poll_age_s"] < facts["limit_s"] == 3 * 60 + 30
    assert facts["last_answer_age_s"] is None
    assert figures["last_answer_timestamp_seconds"] == 0
    assert math.isnan(figures["threshold"])
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/healthz", timeout=30)  # it ends with the daemon


def test_a_loop_that_stands_still_is_unhealthy_until_it_goes_on() -> None:
    clock = Clock()
    metrics = Metrics(limit=210, clock=clock)
    with serve(LOCAL, metrics) as url:
        metrics.polled("nothing")
        clock.now += 210
        assert requests.get(f"{url}/healthz", timeout=30).status_code == 200
        clock.now += 1
        stalled = requests.get(f"{url}/healthz", timeout=30)
        assert stalled.status_code == 503
        assert stalled.json()["status"] == "stalled"
        assert stalled.json()["last_poll_age_s"] == 211
        metrics.polled("unreachable")
        metrics.figures["backoff_seconds"].labels("polling").set(2.5)
        mended = requests.get(f"{url}/healthz", timeout=30)
        assert mended.status_code == 200
        assert mended.json()["backoff_s"] == 2.5
        assert mended.json()["last_answer_age_s"] == 211
        assert requests.get(f"{url}/other", timeout=30).status_code == 404


@pytest.mark.parametrize(("interval", "backoff", "limit"), [(5, 60, 210), (100, 60, 330)])
def test_the_limit_follows_the_longest_wait(interval: int, backoff: int, limit: int) -> None:
    flags = [f"worker.poll_interval={interval}", f"worker.max_backoff={backoff}"]
    assert health_limit(load_config(environment={}, flags=flags)) == limit


@pytest.mark.parametrize("kind", [ServerUnreachable, ServerBusy, ServerRefuses, DiskRefuses])
def test_each_fault_is_counted_under_a_name_of_its_own(kind: type[RetryLater]) -> None:
    assert FAULTS[kind] in OUTCOMES
    assert len({*FAULTS.values()}) == len(FAULTS)


def figure(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"emotion_worker_{name}", labels)


def test_a_face_counts_as_named_if_an_emotion_reached_the_threshold() -> None:
    metrics = Metrics()
    box = {"face_id": 1, "bbox": ["0", "0", "9", "9"], "confidence": 0.9}
    metrics.recorded({"faces": [box | {"fear": 0.4}, box, box], "threshold": 0.3})
    assert figure(metrics, "faces_total", outcome="named") == 1
    assert figure(metrics, "faces_total", outcome="unnamed") == 2


def test_a_stage_that_fails_is_measured_too() -> None:
    metrics = Metrics()
    with pytest.raises(ServerBusy), metrics.stage("pull"):
        raise ServerBusy("x")
    assert figure(metrics, "stage_seconds_count", stage="pull") == 1


def test_a_port_in_use_is_the_users_mistake_and_names_the_key(
    server: ScriptedServer, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flags = ("--url", server.url, "--set", f"metrics.address={port}")
        done = run_worker(tmp_path, "run", *flags)
    assert done.returncode == 2
    assert f"[metrics] address = 127.0.0.1:{port}: cannot listen on" in done.stderr
    with pytest.raises(UsageError, match="cannot listen"), serve("no.such.host.:1", Metrics()):
        pass


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_it_also_listens_on_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with serve("[::1]:0", Metrics()) as url:
        assert requests.get(f"{url}/healthz", timeout=30).status_code == 200


def exported() -> set[str]:
    with serve(LOCAL, Metrics()) as url:
        return {name.split()[0] for name in samples(url)}


def test_dashboard_and_alerts_ask_for_nothing_that_is_not_exported() -> None:
    dashboard = (PROJECT / "deploy" / "grafana-dashboard.json").read_text()
    alerts = (PROJECT / "deploy" / "alerts.yml").read_text()
    assert len(json.loads(dashboard)["panels"]) > 5
    for text in (dashboard, alerts):
        asked = set(re.findall(r"emotion_worker_(\w+)", text))
        assert len(asked) >= 2
        assert asked <= exported()


def test_the_documentation_names_every_metric_stage_and_outcome() -> None:
    text = (PROJECT / "docs" / "operations.md").read_text()
    own = {name for name in exported() if not name.startswith(("process_", "stage_seconds_"))}
    for name in (*own, "stage_seconds", *STAGES, *OUTCOMES):
        assert re.search(rf"\b(emotion_worker_)?{name}\b", text), name


def test_a_request_that_fails_is_logged_and_the_next_one_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def pending() -> int:
        raise ValueError("no count")

    metrics = Metrics()
    metrics.figures["posts_pending"].set_function(pending)
    with serve(LOCAL, metrics) as url:
        assert requests.get(f"{url}/metrics", timeout=30).status_code == 500
        assert requests.get(f"{url}/healthz", timeout=30).status_code == 200
    assert "no count" in caplog.text
