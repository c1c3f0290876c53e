"""The analysis in processes of its own: same results, and what becomes of one that ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.photographs import SAMPLES
from worker.analysis import analyst as analyst_module
from worker.analysis.analyst import Analysts
from worker.analysis.pipeline import Pipeline
from worker.config import PROJECT, ClassificationConfig, Config, WorkerConfig
from worker.errors import ImageLost, Stop, UsageError
from worker.record import Analysis

PORTRAIT = SAMPLES["astronaut_small.jpg"]


@pytest.fixture(scope="module")
def analysts() -> Iterator[Analysts]:
    with Analysts(Config()) as running:
        yield running


def children(process: int) -> list[int]:
    path = Path(f"/proc/{process}/task")
    return [
        int(child)
        for thread in path.iterdir()
        for child in (thread / "children").read_text().split()
    ]


def pids(analysts: Analysts) -> list[int]:
    return [each._process.pid for each in analysts._all if each._process is not None]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def untimed(analysis: Analysis) -> Analysis:
    return replace(analysis, elapsed_ms=0)


def test_an_analyst_finds_what_the_pipeline_finds(analysts: Analysts) -> None:
    pipeline = Pipeline(Config())
    for content in SAMPLES.values():
        assert untimed(analysts.analyze(content)) == untimed(pipeline.analyze(content))
    with pytest.raises(ImageLost, match="do not decode") as caught:
        analysts.analyze(b"no image")
    assert caught.value.kind == "not_an_image"


def test_an_image_whose_analyst_ended_is_tried_once_more(analysts: Analysts) -> None:
    expected = untimed(analysts.analyze(PORTRAIT))
    (first,) = pids(analysts)
    os.kill(first, signal.SIGSTOP)
    with ThreadPoolExecutor(2) as threads:
        found = [threads.submit(analysts.analyze, PORTRAIT) for _ in range(2)]
        time.sleep(0.2)
        os.kill(first, signal.SIGKILL)
        assert [untimed(each.result()) for each in found] == [expected] * 2
    (second,) = pids(analysts)
    assert second != first


def test_an_image_that_ends_two_analysts_is_lost_and_the_one_behind_it_is_not(
    analysts: Analysts, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = untimed(analysts.analyze(PORTRAIT))
    analyst, deadly = analysts._all[0], PORTRAIT + b"deadly"
    send = analyst._send

    def end_it() -> None:
        assert analyst._loaded.wait(60)
        assert analyst._process is not None
        os.kill(analyst._process.pid, signal.SIGKILL)

    def send_and_end(what: Config | bytes) -> None:
        send(what)
        if what == deadly:
            threading.Thread(target=end_it).start()

    monkeypatch.setattr(analyst, "_send", send_and_end)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(analysts.analyze, deadly)
        until(lambda: len(analyst) == 1)
        behind = threads.submit(analysts.analyze, PORTRAIT)
        with pytest.raises(ImageLost, match="ended 2 times: by signal 9, by signal 9") as caught:
            first.result()
        assert caught.value.kind == "crashed"
        assert untimed(behind.result()) == expected


def test_an_analyst_that_hangs_is_ended_and_its_image_tried_again(
    analysts: Analysts, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = untimed(analysts.analyze(PORTRAIT))
    (first,) = pids(analysts)
    os.kill(first, signal.SIGSTOP)
    monkeypatch.setattr(analyst_module, "LONGEST", 5.0)
    assert untimed(analysts.analyze(PORTRAIT)) == expected
    assert pids(analysts) != [first]


def test_one_that_can_not_even_be_loaded_is_no_fault_of_an_image() -> None:
    with Analysts(Config()) as analysts, ThreadPoolExecutor(1) as threads:
        (pid,) = pids(analysts)
        os.kill(pid, signal.SIGSTOP)
        found = threads.submit(analysts.analyze, PORTRAIT)
        until(lambda: len(analysts._all[0]) == 1)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Stop, match="cannot be started: it ended by signal 9"):
            found.result()


def test_weights_that_can_not_be_used_are_named(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"no weights")
    config = Config(classification=ClassificationConfig(weights=wrong))
    with Analysts(config) as analysts, pytest.raises(UsageError, match=r"wrong\.onnx"):
        analysts.analyze(PORTRAIT)


def test_two_images_at_a_time_take_two_processes() -> None:
    with Analysts(Config(worker=WorkerConfig(parallel=2))) as analysts:
        assert len(pids(analysts)) == 1  # the other one is started when it is needed
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(analysts.analyze, [PORTRAIT] * 8))
        both = pids(analysts)
    assert len(both) == 2
    assert [untimed(each) for each in found] == [untimed(found[0])] * 8
    assert not any(Path(f"/proc/{pid}").exists() for pid in both)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_does_not_end_the_image_in_hand(
    analysts: Analysts, number: signal.Signals
) -> None:
    analysts.analyze(PORTRAIT)
    (pid,) = pids(analysts)
    os.kill(pid, number)
    analysts.analyze(PORTRAIT)
    assert pids(analysts) == [pid]


def test_an_analyst_ends_with_its_daemon_however_that_ends(tmp_path: Path) -> None:
    code = """
import time
from worker.analysis.analyst import Analysts
from worker.config import Config
with Analysts(Config()):
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT) as daemon:
        until(lambda: children(daemon.pid))
        (pid,) = children(daemon.pid)
        daemon.kill()
    until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in state(pid))


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
