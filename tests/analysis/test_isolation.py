"""The daemon and its children together: what ends one of them, and what becomes of the image."""

import os
import signal
from pathlib import Path
from subprocess import Popen

import pytest

from tests import faults
from tests.photographs import SAMPLES
from tests.processes import children, has_ended, start, wait_for
from tests.scripted_server import Reply, ScriptedServer
from worker.database import read_records

PNG = {"Content-Type": "image/png"}


@pytest.fixture(autouse=True)
def _harmful_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", faults.FOLDER)


def daemon(folder: Path, server: ScriptedServer, *settings: str) -> Popen[str]:
    url = f"server.url={server.url}"
    return start(folder, "run", *(f"--set={each}" for each in (url, *settings)))


def waiting(signs: Path) -> Reply:
    return Reply(200, faults.waits(signs), {**PNG, "X-Task-Id": signs.name})


def errors(folder: Path) -> dict[str, str | None]:
    """By task, the type of error that stands in its record."""
    records = read_records(folder / "results.json")
    return {each["task_id"]: each.get("error", {}).get("type") for each in records}


def recorded(folder: Path) -> int:
    return len(errors(folder)) if (folder / "results.json").exists() else 0


def test_no_child_outlives_a_killed_daemon_and_none_dies_of_a_fatal_error(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with ScriptedServer() as server:
        # One that is done, as more than one is asked for only then.
        done = Reply(200, SAMPLES["astronaut_small.jpg"], {**PNG, "X-Task-Id": "done"})
        server.script("/image", done, *(waiting(each) for each in (first, second)), Reply(204))
        process = daemon(tmp_path, server, "worker.parallel=2")
        wait_for(lambda: faults.begun(first).exists() and faults.begun(second).exists())
        both = children(process.pid)
        process.kill()
        wait_for(lambda: all(map(has_ended, both)))
    _, said = process.communicate()
    assert len(both) == 2
    assert "Fatal" not in said
    assert "Traceback" not in said


def test_ctrl_c_to_all_of_them_lets_the_image_in_hand_finish(tmp_path: Path) -> None:
    signs = tmp_path / "signs"
    with ScriptedServer() as server:
        server.script("/image", waiting(signs), Reply(204))
        process = daemon(tmp_path, server)
        wait_for(faults.begun(signs).exists)
        both = [process.pid, *children(process.pid)]
        for pid in both:
            os.kill(pid, signal.SIGINT)
        faults.go(signs)
        _, said = process.communicate()
    assert (process.returncode, "Traceback" in said) == (0, False)
    assert errors(tmp_path) == {"signs": None}
    assert len(both) == 2
    assert all(map(has_ended, both))


def test_two_kills_of_the_daemon_are_no_fault_of_the_image_in_hand(tmp_path: Path) -> None:
    signs = tmp_path / "innocent"
    with ScriptedServer() as server:
        server.script("/image", waiting(signs))
        for _ in range(2):
            process = daemon(tmp_path, server)
            wait_for(faults.begun(signs).exists)
            process.kill()
            process.communicate()
            faults.begun(signs).unlink()
        faults.go(signs)
        process = daemon(tmp_path, server)
        wait_for(lambda: recorded(tmp_path) == 1)
        process.terminate()
        process.communicate()
    assert errors(tmp_path) == {"innocent": None}


def test_a_stopped_and_a_killed_child_cost_the_daemon_nothing(tmp_path: Path) -> None:
    signs = [tmp_path / name for name in ("killed", "after")]
    with ScriptedServer() as server:
        deadly = Reply(200, faults.KILLS, {**PNG, "X-Task-Id": "deadly"})
        server.script("/image", waiting(signs[0]), deadly, waiting(signs[1]), Reply(204))
        process = daemon(tmp_path, server)
        wait_for(faults.begun(signs[0]).exists)
        (child,) = children(process.pid)
        faults.begun(signs[0]).unlink()
        os.kill(child, signal.SIGKILL)
        wait_for(faults.begun(signs[0]).exists)  # tried again, by another child
        for each in signs:
            faults.go(each)
        wait_for(lambda: recorded(tmp_path) == 3)
        process.terminate()
        process.communicate()
    assert errors(tmp_path) == {"killed": None, "deadly": "crashed", "after": None}
    assert process.returncode == 0
