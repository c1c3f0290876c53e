"""/metrics and /healthz as a monitoring system sees them: real daemon, real requests."""

import json
import math
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.daemon.test_scheduler import Daemon, configure, photograph
from tests.processes import run_worker
from tests.scripted_server import Reply, ScriptedServer
from worker.config import PROJECT, load_config
from worker.daemon import metrics as monitoring
from worker.daemon.metrics import OUTCOMES, STAGES, Monitor, health_limit, outcome_of, serve
from worker.errors import (
    DiskRefuses,
    RetryLater,
    ServerBusy,
    ServerRefuses,
    ServerUnreachable,
    UsageError,
)

ANYWHERE = "metrics.address=127.0.0.1:0"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        scripted.script("/threshold", Reply(body=b"0.2"))
        scripted.script("/image", Reply(204))
        yield scripted


def address(caplog: pytest.LogCaptureFixture) -> str:
    """Where the daemon of this test serves; it has to say so before anything else happens."""
    for _ in range(1000):
        if found := re.search(r"serving (\S+)/metrics", caplog.text):
            return found[1]
        time.sleep(0.02)
    raise AssertionError(caplog.text)


def samples(url: str) -> dict[str, float]:
    """Each figure of /metrics under `name`, or `name label value`."""
    figures = {}
    for family in text_string_to_metric_families(requests.get(f"{url}/metrics", timeout=5).text):
        for sample in family.samples:
            name = sample.name.removeprefix("emotion_worker_")
            figures[" ".join([name, *map(" ".join, sample.labels.items())])] = sample.value
    return figures


def test_metrics_show_what_the_daemon_did(
    server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "worker")
    broken = Reply(body=b"no image", headers={"Content-Type": "image/png", "X-Task-Id": "t2"})
    answers = (photograph("t1"), broken, photograph("t1"), Reply(503), Reply(500), Reply(204))
    server.script("/image", *answers)
    server.script("/results", Reply(500))
    # One poll at a time: what a repeated image counts as depends on which one was stored last.
    flags = ("server.results_path=/results", "worker.prefetch=0", ANYWHERE)
    config = configure(tmp_path, server.url, *flags)
    with Daemon(config) as daemon:
        url = address(caplog)
        daemon.until(lambda: samples(url)["polls_total outcome nothing"] >= 2)
        daemon.until(lambda: samples(url)["backoff_seconds loop posting"] > 0)
        seen = samples(url)
    polls = {name: seen[f"polls_total outcome {name}"] for name in OUTCOMES}
    expected = dict.fromkeys(OUTCOMES, 0) | {"image": 3, "busy": 1, "fault": 1}
    assert polls == expected | {"nothing": polls["nothing"]}
    assert seen["images_total outcome analyzed"] == seen["images_total outcome repeated"] == 1
    assert seen["images_total outcome not_an_image"] == 1
    assert seen["faces_total outcome named"] + seen["faces_total outcome unnamed"] == 1
    assert seen["threshold"] == 0.2
    assert seen["posts_pending"] == 2
    assert seen["backoff_seconds loop polling"] == 0
    assert seen["stage_seconds_count stage pull"] == pytest.approx(sum(polls.values()), abs=1)
    assert seen["stage_seconds_count stage store"] == 2
    assert seen["stage_seconds_count stage analyze"] == 2
    assert seen["stage_seconds_sum stage analyze"] > 0.01
    assert seen["stage_seconds_bucket le 0.001 stage analyze"] < 2
    assert seen["stage_seconds_bucket le +Inf stage analyze"] == 2
    assert abs(seen["last_poll_timestamp_seconds"] - time.time()) < 30
    assert abs(seen["last_answer_timestamp_seconds"] - time.time()) < 30
    assert [name for name in seen if name.startswith("build_info") and "emotion_net" in name]
    assert seen["process_open_fds"] > 3


def test_a_server_that_is_down_is_shown_and_does_not_make_the_worker_unhealthy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "worker")
    with Daemon(configure(tmp_path, "http://127.0.0.1:1", ANYWHERE)) as daemon:
        url = address(caplog)
        daemon.until(lambda: samples(url)["polls_total outcome unreachable"] >= 2)
        answer = requests.get(f"{url}/healthz", timeout=5)
        figures = samples(url)
    assert answer.status_code == 200
    facts = answer.json()
    assert (facts["status"], facts["last_poll"]) == ("ok", "unreachable")
    assert facts["last_poll_age_s"] < facts["limit_s"] == 3 * 1 + 1
    assert facts["last_answer_age_s"] is None
    assert figures["last_answer_timestamp_seconds"] == 0
    assert math.isnan(figures["threshold"])
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/healthz", timeout=5)  # it ends with the daemon


def test_a_loop_that_stands_still_is_unhealthy_until_it_goes_on() -> None:
    monitor = Monitor(limit=0.3)
    with serve("127.0.0.1:0", monitor, lambda: 0) as url:
        monitor.polled("nothing")
        assert requests.get(f"{url}/healthz", timeout=5).status_code == 200
        time.sleep(0.4)
        stalled = requests.get(f"{url}/healthz", timeout=5)
        assert stalled.status_code == 503
        assert stalled.json()["status"] == "stalled"
        assert 0.3 < stalled.json()["last_poll_age_s"] < 10
        monitor.polled("unreachable", 2.5)
        mended = requests.get(f"{url}/healthz", timeout=5)
        assert mended.status_code == 200
        assert mended.json()["backoff_s"] == 2.5
        assert mended.json()["last_answer_age_s"] > 0.3
        assert requests.get(f"{url}/", timeout=5).status_code == 404


@pytest.mark.parametrize(("interval", "backoff", "limit"), [(5, 60, 210), (100, 60, 330)])
def test_the_limit_follows_the_longest_wait(interval: int, backoff: int, limit: int) -> None:
    flags = [f"worker.poll_interval={interval}", f"worker.max_backoff={backoff}"]
    assert health_limit(load_config(environment={}, flags=flags)) == limit


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ServerUnreachable("x"), "unreachable"),
        (ServerBusy("x"), "busy"),
        (ServerRefuses("x", status=404), "refused"),
        (DiskRefuses("x"), "disk"),
        (RetryLater("x"), "fault"),
    ],
)
def test_each_fault_is_counted_under_its_name(error: RetryLater, outcome: str) -> None:
    assert outcome_of(error) == outcome
    assert outcome in OUTCOMES


def test_a_face_counts_as_named_where_an_emotion_reached_the_threshold() -> None:
    monitor = Monitor()
    box = {"face_id": 1, "bbox": ["0", "0", "9", "9"], "confidence": 0.9}
    monitor.recorded({"faces": [box | {"fear": 0.4}, box, box], "threshold": 0.3})
    assert monitor.faces == {"named": 1, "unnamed": 2}


def test_a_stage_that_fails_is_measured_too() -> None:
    monitor = Monitor()
    with pytest.raises(ServerBusy), monitor.stage("pull"):
        time.sleep(0.02)
        raise ServerBusy("x")
    assert sum(monitor.stages["pull"]) == 1
    assert 0.02 <= monitor.seconds["pull"] < 5


def test_a_port_in_use_is_the_users_mistake_and_names_the_key(
    server: ScriptedServer, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flags = ("--url", server.url, "--set", f"metrics.address={port}")
        done = run_worker(tmp_path, "run", *flags)
    assert done.returncode == 2
    assert f"[metrics] address = 127.0.0.1:{port}: cannot listen there" in done.stderr
    with pytest.raises(UsageError, match="cannot listen"), serve("no.such.host.:1", Monitor(), int):
        pass


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_it_also_listens_on_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with serve("[::1]:0", Monitor(), lambda: 0) as url:
        assert requests.get(f"{url}/healthz", timeout=5).status_code == 200


def test_the_prometheus_client_is_imported_only_where_metrics_are_on() -> None:
    code = """if True:
        import sys
        from worker.daemon.metrics import Monitor, serve
        import worker.daemon.scheduler
        with serve("", Monitor(), int):
            assert "prometheus_client" not in sys.modules
        with serve("127.0.0.1:0", Monitor(), int):
            assert "prometheus_client" in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, timeout=60)


def test_dashboard_and_alerts_ask_for_nothing_that_is_not_exported() -> None:
    with serve("127.0.0.1:0", Monitor(), lambda: 0) as url:
        exported = {name.split()[0] for name in samples(url)}
    dashboard = (PROJECT / "deploy" / "grafana-dashboard.json").read_text()
    alerts = (PROJECT / "deploy" / "alerts.yml").read_text()
    assert len(json.loads(dashboard)["panels"]) > 5
    for text in (dashboard, alerts):
        asked = set(re.findall(r"emotion_worker_(\w+)", text))
        assert len(asked) >= 2
        assert asked <= exported


def test_the_documentation_names_every_metric_stage_and_outcome() -> None:
    text = (PROJECT / "docs" / "operations.md").read_text()
    with serve("127.0.0.1:0", Monitor(), lambda: 0) as url:
        exported = {name.split()[0] for name in samples(url)}
    own = {name for name in exported if not name.startswith(("process_", "stage_seconds_"))}
    for name in (*own, "stage_seconds", *STAGES, *OUTCOMES):
        assert re.search(rf"\b(emotion_worker_)?{name}\b", text), name


def test_a_client_that_asks_for_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "MAX_QUIET", 0.1)
    with serve("127.0.0.1:0", Monitor(), lambda: 0) as url:
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as silent:
            assert silent.recv(1) == b""


def test_a_request_that_fails_is_logged_and_the_next_one_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def pending() -> int:
        raise ValueError("no count")

    with serve("127.0.0.1:0", Monitor(), pending) as url:
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{url}/metrics", timeout=5)
        assert requests.get(f"{url}/healthz", timeout=5).status_code == 200
    assert "could not be answered: ValueError('no count')" in caplog.text
