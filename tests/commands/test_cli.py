"""The commands as a user starts them: real processes, exit codes, signals, no traceback."""

import csv
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tinydb import TinyDB

from tests.photographs import SAMPLES
from tests.scripted_server import RawServer, Reply, ScriptedServer, hang
from worker.cli import exit_code
from worker.config import PROJECT
from worker.database.database import Database, parse_rotation
from worker.demo_server.app import create_app
from worker.demo_server.image_queue import MemoryQueue
from worker.errors import (
    DatabaseUnusable,
    DiskRefuses,
    ImageLost,
    RetryLater,
    ServerRefuses,
    ServerUnreachable,
    UsageError,
    WorkerError,
)
from worker.web import WebServer

PHOTOGRAPH = {"Content-Type": "image/jpeg", "X-Task-Id": "t1"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(PROJECT / "run_worker.py"), *arguments]


def run_worker(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*arguments), cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert "Traceback" not in done.stderr
    return done


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments), cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        scripted.script("/threshold", Reply(body=b"0.2"))
        scripted.script("/image", Reply(204))
        yield scripted


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "deeper").mkdir(parents=True)
    (folder / "astronaut.jpg").write_bytes(SAMPLES["astronaut.jpg"])
    (folder / "deeper" / "coffee.jpg").write_bytes(SAMPLES["coffee.jpg"])
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (DatabaseUnusable("x"), 5),
        (ServerUnreachable("x"), 3),
        (RetryLater("x"), 3),
        (ServerRefuses("x", status=401), 4),
        (ServerRefuses("x", status=403), 4),
        (ServerRefuses("x", status=404), 2),
        (DiskRefuses("x"), 1),
        (ImageLost("x", "y"), 1),
    ],
)
def test_each_error_has_its_exit_code(error: WorkerError, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    "name",
    [
        *("run", "once", "demo", "demo-server", "check", "results", "report", "analyze", "live"),
        *("crop", "label", "train", "evaluate"),
    ],
)
def test_each_command_has_help_with_an_example(tmp_path: Path, name: str) -> None:
    words = [name, "emotions"] if name == "evaluate" else [name]
    done = run_worker(tmp_path, *words, "--help")
    assert done.returncode == 0
    assert "example: emotion-worker" in " ".join(done.stdout.split())


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_image_in_hand_and_exits_with_0(
    server: ScriptedServer, tmp_path: Path, stop: signal.Signals
) -> None:
    server.script("/image", Reply(body=SAMPLES["group.jpg"], headers=PHOTOGRAPH), Reply(204))
    server.script("/threshold", Reply(body=b"0.2", delay=0.5))
    process = start(tmp_path, "--url", server.url, "--interval", "60")
    wait_for(lambda: [r for r in server.requests if r.path == "/threshold"])
    process.send_signal(stop)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in log
    assert [d["task_id"] for d in TinyDB(tmp_path / "results.json").table("images")] == ["t1"]


def test_a_signal_while_it_waits_ends_it_at_once(server: ScriptedServer, tmp_path: Path) -> None:
    process = start(tmp_path, "--url", server.url, "--interval", "3600")
    wait_for(lambda: server.requests)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_second_signal_exits_at_once_with_128_and_its_number(tmp_path: Path) -> None:
    with RawServer(hang) as server:
        process = start(tmp_path, "--url", server.url)
        wait_for(lambda: server.connections)
        process.send_signal(signal.SIGTERM)
        # Two signals that wait together are taken by number, not by age: let the first be taken,
        # which torch's import can hold up on a busy machine.
        time.sleep(3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGINT
    assert list(TinyDB(tmp_path / "results.json").table("images")) == []


def test_once_exits_with_what_the_server_made_of_it(server: ScriptedServer, tmp_path: Path) -> None:
    arguments = ("once", "--url", server.url, "--set", "server.results_path=/results")
    server.script("/image", Reply(body=SAMPLES["coffee.jpg"], headers=PHOTOGRAPH), Reply(204))
    server.script("/results", Reply(503))
    owed = run_worker(tmp_path, *arguments)
    assert (owed.returncode, "1 results are still to post" in owed.stderr) == (1, True)
    server.script("/results", Reply(201))
    assert run_worker(tmp_path, *arguments).returncode == 0
    server.script("/image", Reply(401))
    refused = run_worker(tmp_path, *arguments)
    assert (refused.returncode, "[server] token_file" in refused.stderr) == (4, True)
    unreachable = run_worker(tmp_path, "once", "--url", "http://127.0.0.1:1")
    assert unreachable.returncode == 3
    assert "http://127.0.0.1:1" in unreachable.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--set", "server.urll=x"), 2, "unknown key urll in [server]"),
        (("--url", "localhost"), 2, "[server] url = localhost"),
        (("--config", "none.ini"), 2, "cannot read the configuration file none.ini"),
        (("--set", "classification.weights=none"), 2, "there is no file none"),
        (("--set", "database.path=none/results.json"), 5, "none/results.json"),
        (("analyze", "nowhere"), 2, "nowhere: there is no such file or folder"),
        (("results", "--since", "yesterday"), 2, "'yesterday' is no time"),
        (("results", "--database", "none.json"), 5, "none.json"),
        (("train", "--data", "nowhere"), 2, "there is no folder nowhere"),
        (("train", "--data", "x", "--init", "none"), 2, "--init: there is no file none"),
        (("crop",), 2, "name images or folders, or set [database] keep_images"),
        (("evaluate", "emotions", "--data", "nowhere"), 2, "there is no folder nowhere"),
        (("fly",), 2, "there is no command fly"),
        (("demo-server", "nowhere"), 2, "nowhere"),
        (("analyze", "x", "--threshold", "7"), 2, "7 is not in 0 to 1; did you mean 0.07?"),
    ],
)
def test_a_users_mistake_gets_one_clear_message(
    tmp_path: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    done = run_worker(tmp_path, *arguments)
    assert done.returncode == code
    assert says in done.stderr


def test_a_training_does_not_write_over_what_it_begins_with(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("weights")
    done = run_worker(tmp_path, "train", "--data", "x", "--init", "a", "--output", "./a")
    assert (done.returncode, (tmp_path / "a").read_text()) == (2, "weights")
    assert "is what --init begins with" in done.stderr


def test_a_folder_that_takes_no_file_gets_one_clear_message(tmp_path: Path) -> None:
    # Not even root may write there.
    done = run_worker(tmp_path, "--set", "database.path=/proc/results.json")
    assert done.returncode == 5
    assert "/proc/results.json" in done.stderr


def test_check_says_a_line_each_and_ends_with_the_first_failure(
    server: ScriptedServer, tmp_path: Path
) -> None:
    good = run_worker(tmp_path, "check", "--url", server.url)
    assert good.returncode == 0
    assert [line.split()[:2] for line in good.stdout.splitlines()] == [
        ["ok", "configuration"],
        ["ok", "weights"],
        ["ok", "database"],
        ["reachable", "server"],
    ]
    assert "emotion_net" in good.stdout
    assert [request.path for request in server.requests] == ["/threshold"]
    server.script("/threshold", Reply(403))
    assert run_worker(tmp_path, "check", "--url", server.url).returncode == 4
    away = run_worker(tmp_path, "check", "--url", "http://127.0.0.1:1")
    assert (away.returncode, away.stdout.count("FAILED")) == (3, 1)
    both = run_worker(
        tmp_path, "check", "--url", "http://127.0.0.1:1", "--set", "classification.weights=none"
    )
    assert (both.returncode, both.stdout.count("FAILED")) == (2, 2)
    wrong = run_worker(tmp_path, "check", "--set", "server.timeout=-1")
    assert (wrong.returncode, "[server] timeout = -1" in wrong.stdout) == (2, True)


def test_analyze_prints_stores_and_draws_what_it_finds(tmp_path: Path, pictures: Path) -> None:
    options = ("--annotated", "drawn", "--database", "r.json", "--threshold", "0.3")
    done = run_worker(tmp_path, "analyze", str(pictures), *options)
    assert done.returncode == 0
    first, second = (line.split("\t") for line in done.stdout.splitlines())
    assert first[0].endswith("astronaut.jpg")
    assert first[2].startswith("1: happiness ")
    assert second[0].endswith("coffee.jpg")
    assert second[2] == "no face"
    assert (tmp_path / "drawn" / "astronaut.jpg").read_bytes()[:2] == b"\xff\xd8"
    assert (tmp_path / "drawn" / "deeper" / "coffee.jpg").exists()
    again = run_worker(tmp_path, "analyze", str(pictures), "--database", "r.json", "--json")
    printed = [json.loads(line) for line in again.stdout.splitlines()]
    stored = [dict(document) for document in TinyDB(tmp_path / "r.json").table("images")]
    assert len(stored) == 4
    assert stored[2:] == printed
    assert "task_id" not in printed[0]


def test_analyze_goes_on_after_a_file_that_is_no_image(tmp_path: Path, pictures: Path) -> None:
    done = run_worker(tmp_path, "analyze", str(pictures / "notes.txt"), str(pictures))
    assert done.returncode == 1
    assert "1 of 3 could not be analysed" in done.stderr
    assert "error: its 10 bytes do not decode" in done.stdout
    assert "happiness" in done.stdout


def test_results_shows_filters_and_exports_what_once_stored(tmp_path: Path) -> None:
    queue = MemoryQueue(threshold=0.3)
    for name in ("astronaut.jpg", "coffee.jpg"):
        queue.add(SAMPLES[name], name)
    queue.add(b"no image", "broken.png")
    with WebServer(create_app(queue)) as server:
        flags = ("--url", server.url, "--set", "server.results_path=/results")
        in_order = ("--set", "worker.prefetch=0")
        assert run_worker(tmp_path, "once", *flags, *in_order).returncode == 0
        assert queue.counts()["done"] == 3
    lines = run_worker(tmp_path, "results").stdout.splitlines()
    assert [line.split("\t")[1] for line in lines] == ["astronaut.jpg", "coffee.jpg", "broken.png"]
    happy = run_worker(tmp_path, "results", "--emotion", "happiness", "--json").stdout
    assert [json.loads(line)["file_name"] for line in happy.splitlines()] == ["astronaut.jpg"]
    table = run_worker(tmp_path, "results", "--csv", "--last", "1").stdout
    (row,) = csv.DictReader(io.StringIO(table))
    assert row["file_name"] == "broken.png"
    assert "do not decode" in row["error"]
    counted = run_worker(tmp_path, "results", "--file", "*.jpg", "--counts").stdout.splitlines()
    assert counted[:4] == ["images\t2", "no face\t1", "errors\t0", "faces\t1"]
    assert run_worker(tmp_path, "results", "--verify").returncode == 0


def test_results_of_another_programs_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"name": "package", "version": 1}')
    done = run_worker(tmp_path, "results")
    assert done.returncode == 5
    assert "results.json" in done.stderr


def test_demo_server_serves_a_folder_until_it_is_stopped(pictures: Path, tmp_path: Path) -> None:
    process = start(tmp_path, "demo-server", str(pictures), "--port", "0")
    assert process.stdout is not None
    url = process.stdout.readline().split()[2].rstrip(";")
    assert run_worker(tmp_path, "once", "--url", url).returncode == 0
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0
    (record,) = TinyDB(tmp_path / "results.json").table("images")
    assert record["file_name"] == "astronaut.jpg"


def test_demo_does_the_whole_job_and_shows_it(tmp_path: Path) -> None:
    done = run_worker(tmp_path, "demo")
    assert done.returncode == 0
    assert "received 6 results" in done.stdout
    records = {
        d["file_name"]: d for d in TinyDB(tmp_path / "demo" / "results.json").table("images")
    }
    assert len(records) == 6
    assert {r["threshold"] for r in records.values()} == {0.2, 0.5, 0.1}
    assert len(records["group.jpg"]["faces"]) == 6
    assert records["astronaut.jpg"]["faces"][0]["happiness"] > 0.7
    assert (tmp_path / "demo" / "annotated" / "group.jpg").exists()


def test_a_missing_package_is_named_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "scipy.py").write_text("raise ModuleNotFoundError(\"No module\", name='scipy')")
    done = subprocess.run(
        command("train", "--data", "x"),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "the package scipy is missing" in done.stderr
    assert "Traceback" not in done.stderr


def test_results_mends_a_torn_tail_and_reads_while_a_worker_writes(
    server: ScriptedServer, tmp_path: Path, pictures: Path
) -> None:
    file = tmp_path / "results.json"
    run_worker(tmp_path, "analyze", str(pictures), "--database", "results.json")
    torn = file.read_bytes()[:-2] + b', "3": {"file_na'
    file.write_bytes(torn)
    assert len(run_worker(tmp_path, "results").stdout.splitlines()) == 2
    assert len(TinyDB(file).table("images")) == 2
    process = start(tmp_path, "--url", server.url)
    wait_for(lambda: server.requests)
    assert len(run_worker(tmp_path, "results").stdout.splitlines()) == 2
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


def test_results_follow_shows_what_comes_across_a_rotation_until_it_is_stopped(
    tmp_path: Path,
) -> None:
    file, record = tmp_path / "results.json", {"threshold": 0.5, "faces": []}
    other = Database(tmp_path / "other.json")
    with Database(file, rotation=parse_rotation("1 kB")) as database, other:
        for name in ("old.png", "0.png"):
            database.append({"file_name": name, **record})
        flags = ("--database", "results.json", "other.json", "--last", "1")
        process = start(tmp_path, "results", "--follow", "--json", *flags)
        assert process.stdout is not None
        seen = [json.loads(process.stdout.readline())["file_name"]]
        for number in range(1, 40):
            database.append({"file_name": f"{number}.png", **record})
            if number in (1, 20, 39):
                while seen[-1] != f"{number}.png":
                    seen.append(json.loads(process.stdout.readline())["file_name"])
        other.append({"file_name": "other.png", **record})
        seen.append(json.loads(process.stdout.readline())["file_name"])
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert seen == [*(f"{number}.png" for number in range(40)), "other.png"]
    assert len(list(tmp_path.glob("results.*Z.json"))) >= 2


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux's prlimit")
def test_a_full_disk_loses_nothing_and_the_daemon_goes_on_when_there_is_room(
    server: ScriptedServer, tmp_path: Path
) -> None:
    file = tmp_path / "results.json"

    def stored() -> list[str]:
        return [d["task_id"] for d in TinyDB(file).table("images")] if file.exists() else []

    def offer(task: str) -> None:
        headers = {**PHOTOGRAPH, "X-Task-Id": task}
        server.script("/image", Reply(body=SAMPLES["coffee.jpg"], headers=headers), Reply(204))

    # Given a daemon that has stored one record, and then no file may grow any more
    process = start(tmp_path, "--url", server.url, "--interval", "0.1")
    offer("t1")
    wait_for(lambda: stored() == ["t1"])
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (file.stat().st_size + 10, hard))
    # When the next image comes
    offer("t2")
    assert process.stderr is not None
    while "cannot write" not in (line := process.stderr.readline()):
        assert process.poll() is None
    # Then the log says so, the file stays readable, and the record follows once there is room
    assert "next try in" in line
    assert stored() == ["t1"]
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    wait_for(lambda: stored() == ["t1", "t2"])
    # And a stop while it is full is no success
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (file.stat().st_size + 10, hard))
    offer("t3")
    while "cannot write" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "task t3 is not recorded" in log
    assert stored() == ["t1", "t2"]
