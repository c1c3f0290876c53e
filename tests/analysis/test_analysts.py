"""The analysis in child processes: same results, and what becomes of a child that ends or hangs."""

import os
import resource
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests import faults
from tests.photographs import SAMPLES
from tests.processes import children, has_ended, wait_for
from worker.analysis import Analysts
from worker.analysis.pipeline import Pipeline
from worker.config import ClassificationConfig, Config, ServerConfig, WorkerConfig
from worker.errors import ImageLost, NoAnalyst, UsageError
from worker.record import Analysis

PORTRAIT = SAMPLES["astronaut_small.jpg"]
HANGS = 3.0  # seconds for an image that needs a hundredth of it


@pytest.fixture(scope="module")
def expected() -> Analysis:
    return untimed(Pipeline(Config()).analyze(PORTRAIT))


@pytest.fixture(scope="module")
def others() -> set[int]:
    """The processes that other tests have started."""
    return {*children(os.getpid())}


@pytest.fixture(scope="module")
def analysts(others: set[int]) -> Iterator[Analysts]:
    """One child that has loaded, and knows harmful images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", faults.FOLDER)
        with Analysts(Config(), longest=HANGS) as running:
            running.analyze(PORTRAIT)
            yield running


def untimed(analysis: Analysis) -> Analysis:
    return replace(analysis, elapsed_ms=0)


def child_beside(others: Iterable[int]) -> int:
    (child,) = {*children(os.getpid())} - {*others}
    return child


def lost(analysts: Analysts, content: bytes) -> ImageLost:
    with pytest.raises(ImageLost) as caught:
        analysts.analyze(content)
    return caught.value


def test_a_child_finds_what_the_pipeline_finds(analysts: Analysts) -> None:
    pipeline = Pipeline(Config())
    for content in SAMPLES.values():
        assert untimed(analysts.analyze(content)) == untimed(pipeline.analyze(content))


def test_it_says_why_an_image_is_lost(analysts: Analysts) -> None:
    for content in (b"", b"no image", SAMPLES["coffee.jpg"][:1000]):
        assert lost(analysts, content).kind == "not_an_image"


def test_the_configuration_holds_in_the_child(expected: Analysis) -> None:
    config = Config(
        classification=ClassificationConfig(classes=("happiness", "neutral"), expected="even"),
        server=ServerConfig(max_image_pixels=200_000),
    )
    with Analysts(config) as analysts:
        analysis = analysts.analyze(PORTRAIT)
        [face] = analysis.faces
        assert analysis.expected == "even"
        assert face.box == expected.faces[0].box
        assert list(face.probabilities) == ["happiness", "neutral"]
        assert lost(analysts, SAMPLES["astronaut.jpg"]).kind == "too_many_pixels"


def test_an_image_that_kills_two_children_is_lost_and_the_next_one_is_not(
    analysts: Analysts, expected: Analysis
) -> None:
    problem = lost(analysts, faults.KILLS)
    assert (problem.kind, str(problem)) == (
        "crashed",
        "its analysis ended 2 times: by signal 9, by signal 9",
    )
    assert untimed(analysts.analyze(PORTRAIT)) == expected


def test_so_it_is_with_one_that_stops_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", faults.FOLDER)
    with Analysts(Config(), longest=0.5) as impatient:
        problem = lost(impatient, faults.STOPS)
    assert (problem.kind, str(problem)) == (
        "crashed",
        "its analysis ended 2 times: by its limit of 0.5 s, by its limit of 0.5 s",
    )


def test_a_child_that_somebody_stopped_is_ended_and_its_image_tried_again(
    analysts: Analysts, others: set[int], expected: Analysis
) -> None:
    child = child_beside(others)
    os.kill(child, signal.SIGSTOP)
    rest = 10_000_000  # bytes; so many wait for a child that reads
    assert untimed(analysts.analyze(PORTRAIT + bytes(rest))) == expected
    assert child_beside(others) != child


def test_an_idle_child_that_ends_is_no_fault_of_the_next_image(
    analysts: Analysts, others: set[int], expected: Analysis
) -> None:
    for _ in range(3):
        child = child_beside(others)
        os.kill(child, signal.SIGKILL)
        assert untimed(analysts.analyze(PORTRAIT)) == expected


def test_a_child_that_is_killed_while_it_loads_is_started_again(expected: Analysis) -> None:
    others = children(os.getpid())
    with Analysts(Config()) as analysts:
        child = child_beside(others)
        os.kill(child, signal.SIGKILL)
        wait_for(lambda: has_ended(child))
        assert untimed(analysts.analyze(PORTRAIT)) == expected


def test_while_no_child_can_load_the_image_is_no_fault_and_afterwards_all_is_well(
    monkeypatch: pytest.MonkeyPatch, expected: Analysis
) -> None:
    monkeypatch.setenv("PYTHONPATH", faults.FOLDER)
    monkeypatch.setenv("ENDS_WHILE_LOADING", "1")
    with Analysts(Config()) as analysts:
        for _ in range(3):
            with pytest.raises(NoAnalyst, match="ended while it was loading: by signal 9"):
                analysts.analyze(PORTRAIT)
        monkeypatch.delenv("ENDS_WHILE_LOADING")
        assert untimed(analysts.analyze(PORTRAIT)) == expected


def test_without_a_free_file_descriptor_nothing_ends_and_afterwards_all_is_well(
    expected: Analysis,
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(used)]  # no gap is left
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1, before[1]))
    try:
        analysts = Analysts(Config())
        with pytest.raises(NoAnalyst, match=r"no process can be started .* Too many open files"):
            analysts.analyze(PORTRAIT)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in held:
            os.close(descriptor)
    with analysts:
        assert untimed(analysts.analyze(PORTRAIT)) == expected


def test_weights_that_can_not_be_used_are_named(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.file"
    wrong.write_bytes(b"no weights")
    with Analysts(Config(classification=ClassificationConfig(weights=wrong))) as analysts:
        for _ in range(2):
            with pytest.raises(UsageError, match=r"wrong\.file"):
                analysts.analyze(PORTRAIT)


def test_two_images_at_a_time_take_two_children(tmp_path: Path) -> None:
    others = children(os.getpid())
    config = Config(worker=WorkerConfig(parallel=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", faults.FOLDER)
        with Analysts(config) as analysts, ThreadPoolExecutor(3) as threads:
            assert len(children(os.getpid())) == len(others) + 1  # the other comes with the need
            signs = [tmp_path / name for name in ("first", "second", "third")]
            found = [threads.submit(analysts.analyze, faults.waits(each)) for each in signs]
            wait_for(lambda: sum(faults.begun(each).exists() for each in signs) == 2)
            both = set(children(os.getpid())) - set(others)
            for each in signs:
                faults.go(each)
            assert [each.result().faces for each in found] == [()] * 3
    assert len(both) == 2
    assert children(os.getpid()) == others


def test_an_image_that_waits_behind_one_that_ends_its_child_is_not_blamed(
    analysts: Analysts, others: set[int], expected: Analysis, tmp_path: Path
) -> None:
    signs = tmp_path / "first"
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(analysts.analyze, faults.waits(signs))
        wait_for(faults.begun(signs).exists)
        second = threads.submit(analysts.analyze, PORTRAIT)
        for _ in range(2):
            wait_for(faults.begun(signs).exists)
            faults.begun(signs).unlink()
            os.kill(child_beside(others), signal.SIGKILL)
        with pytest.raises(ImageLost, match="ended 2 times: by signal 9, by signal 9"):
            first.result()
        assert untimed(second.result()) == expected


def test_images_that_come_together_get_each_its_own_answer_whatever_their_child_does(
    analysts: Analysts, others: set[int]
) -> None:
    room = bytes(3_000_000)  # more than a new child takes before it has loaded
    contents = [content + room for content in (PORTRAIT, SAMPLES["coffee.jpg"], PORTRAIT)]
    expected = [untimed(analysts.analyze(content)) for content in contents]
    os.kill(child_beside(others), signal.SIGKILL)
    with ThreadPoolExecutor(4) as threads:
        harm = threads.submit(lost, analysts, faults.KILLS + room)
        found = threads.map(analysts.analyze, contents)
        assert [untimed(each) for each in found] == expected
        assert "2 times: by signal 9, by signal 9" in str(harm.result())


def test_an_image_that_waits_is_not_blamed_for_the_second_end_of_a_child(
    analysts: Analysts, others: set[int], expected: Analysis, tmp_path: Path
) -> None:
    signs = [tmp_path / "first", tmp_path / "second"]
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(analysts.analyze, faults.waits(signs[0]))
        for end in range(2):
            wait_for(faults.begun(signs[0]).exists)
            faults.begun(signs[0]).unlink()
            if end == 1:
                second = threads.submit(analysts.analyze, faults.waits(signs[1]))
            os.kill(child_beside(others), signal.SIGKILL)
        with pytest.raises(ImageLost, match="ended 2 times"):
            first.result()
        wait_for(faults.begun(signs[1]).exists)
        os.kill(child_beside(others), signal.SIGKILL)  # its first try
        faults.go(signs[1])
        assert second.result().faces == ()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_does_not_end_the_image_in_hand(
    analysts: Analysts, others: set[int], tmp_path: Path, number: signal.Signals
) -> None:
    child = child_beside(others)
    signs = tmp_path / number.name
    with ThreadPoolExecutor(1) as threads:
        found = threads.submit(analysts.analyze, faults.waits(signs))
        wait_for(faults.begun(signs).exists)
        os.kill(child, number)
        faults.go(signs)
        assert found.result().faces == ()
    assert child_beside(others) == child


def test_no_child_has_a_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    token = tmp_path / "a-file-of-secrets"
    monkeypatch.setenv("WORKER_SERVER_TOKEN", "the-secret-token")
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://:the-secret-token@127.0.0.1/")
    others = children(os.getpid())
    with Analysts(Config(server=ServerConfig(token_file=token))) as analysts:
        analysts.analyze(PORTRAIT)
        child = child_beside(others)
        told = [Path(f"/proc/{child}/{name}").read_bytes() for name in ("environ", "cmdline")]
    assert not any(b"secret" in each for each in told)
