"""SIGHUP: a real daemon reads its configuration again; what can change does, the rest is said."""

import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

from tests.daemon.played import PlayedAnalysts, asked, image, offer, records
from tests.daemon.running import Daemon
from tests.processes import command, wait_for
from tests.scripted_server import Reply, ScriptedServer
from worker.config import Config, load_config
from worker.daemon.reload import differing, merge


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        scripted.script("/image", Reply(204))
        yield scripted


class Process:
    """The daemon with a worker.ini and a log file, killed at the end of a ``with``."""

    def __init__(self, folder: Path, stdin: int = subprocess.DEVNULL) -> None:
        self._file, self.log_file = folder / "worker.ini", folder / "worker.log"
        with self.log_file.open("ab") as log:  # as `2>> worker.log` opens it
            self.process = subprocess.Popen(command(), cwd=folder, stdin=stdin, stderr=log)

    def reload(self, text: str) -> None:
        self._file.write_text(text)
        self.process.send_signal(signal.SIGHUP)

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def until(self, condition: Callable[[], object]) -> None:
        def met() -> object:
            assert self.process.poll() is None, self.log
            return condition()

        wait_for(met)

    def __enter__(self) -> "Process":
        self.until(lambda: "polling http" in self.log)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def ini(url: str, interval: float, more: str = "") -> str:
    return f"[server]\nurl = {url}\n{more}\n[worker]\npoll_interval = {interval}\n"


def test_what_can_change_does_and_the_rest_is_said_in_one_line(
    server: ScriptedServer, tmp_path: Path
) -> None:
    (tmp_path / "worker.ini").write_text(ini(server.url, 3600))
    with Process(tmp_path) as daemon, ScriptedServer() as other:
        daemon.until(lambda: server.requests)
        other.script("/image", Reply(500))
        text = ini(other.url, 0.1) + "max_backoff = 1\n[database]\npath = other.json\n"
        daemon.reload(text + "[log]\nlevel = DEBUG\nformat = json\n")
        daemon.until(lambda: len(other.requests) >= 4)
        daemon.until(lambda: '"level": "DEBUG"' in daemon.log)
        (line,) = [line for line in daemon.log.splitlines() if "SIGHUP" in line]
        assert "waits for a restart: [database] path" in line
        live = (
            "[server] url, [worker] poll_interval, [worker] max_backoff, [log] level, [log] format"
        )
        assert f"changed: {live};" in line
        assert len(server.requests) == 1
    assert not (tmp_path / "other.json").exists()


class Reloadable:
    """A daemon in this process with a worker.ini that is read again."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._file = folder, folder / "worker.ini"
        self.write(ini(url, 0.1))
        self.daemon = Daemon(self._load(), PlayedAnalysts(), self._load)

    def _load(self) -> Config:
        flags = [f"database.path={self._folder / 'results.json'}"]
        return load_config(self._file, environment={}, flags=flags)

    def write(self, text: str) -> None:
        self._file.write_text(text)

    def reload(self, text: str) -> None:
        self.write(text)
        self.daemon.alarm.reload()

    def __enter__(self) -> "Reloadable":
        self.daemon.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.daemon.__exit__()


@pytest.mark.parametrize("mistake", ["range", "token_file"])
def test_a_broken_file_keeps_the_old_configuration_and_says_so(
    server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, mistake: str
) -> None:
    caplog.set_level("INFO", "worker")
    with Reloadable(tmp_path, server.url) as running:
        running.daemon.until(lambda: server.requests)
        broken = {
            "range": (ini(server.url, -1), "poll_interval = -1"),
            "token_file": (ini(server.url, 3600, "token_file = missing"), "token_file"),
        }
        text, names = broken[mistake]
        running.reload(text)
        running.daemon.until(lambda: "SIGHUP" in caplog.text)
        (line,) = [r for r in caplog.records if "SIGHUP" in r.getMessage()]
        assert line.levelname == "ERROR"
        assert names in line.getMessage()
        assert "the old configuration stays in force" in line.getMessage()
        before = len(server.requests)
        running.daemon.until(lambda: len(server.requests) > before + 3)


def test_a_back_off_is_cut_short_so_that_the_change_holds_at_once(
    server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.script("/image", Reply(503, headers={"Retry-After": "60"}), Reply(204))
    with Reloadable(tmp_path, server.url) as running:
        running.daemon.until(lambda: "next try in 60.0 s" in caplog.text)
        running.reload(ini(server.url, 0.2))
        running.daemon.until(lambda: len(server.requests) >= 3)


def test_the_token_and_the_fallback_threshold_are_those_of_the_new_file(
    server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret")
    token.chmod(0o600)
    with Reloadable(tmp_path, server.url) as running:
        running.daemon.until(lambda: server.requests)
        assert "Authorization" not in server.requests[0].headers
        running.reload(ini(server.url, 0.1, "token_file = token\nfallback_threshold = 0.25"))
        running.daemon.until(
            lambda: server.requests[-1].headers.get("Authorization") == "Bearer s3cret"
        )
        server.script("/image", image("t1"), Reply(204))
        running.daemon.until(lambda: [r["threshold"] for r in records(tmp_path)] == [0.25])
    assert "s3cret" not in caplog.text


def test_an_image_that_is_kept_and_the_threshold_outlive_a_reload(
    server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.script("/image", image("t1"), image("t2"), Reply(204))
    server.script("/threshold", Reply(body=b"0.7"), Reply(500))
    with Reloadable(tmp_path, server.url) as running:
        running.daemon.until(lambda: "kept in hand: 1" in caplog.text)
        running.reload(ini(server.url, 0.2))
        running.daemon.until(lambda: len(asked(server, "/threshold")) >= 3)
    assert [(r["task_id"], r["threshold"]) for r in records(tmp_path)] == [("t1", 0.7), ("t2", 0.7)]


def test_in_a_terminal_it_stops_since_its_window_was_closed(
    server: ScriptedServer, tmp_path: Path
) -> None:
    (tmp_path / "worker.ini").write_text(ini(server.url, 0.1))
    window, terminal = pty.openpty()
    with Process(tmp_path, stdin=terminal) as daemon:
        os.close(terminal)
        os.close(window)
        daemon.process.send_signal(signal.SIGHUP)
        assert daemon.process.wait(60) == 0


def test_a_log_file_can_be_copied_and_cut_to_nothing_while_it_is_written(
    server: ScriptedServer, tmp_path: Path
) -> None:
    (tmp_path / "worker.ini").write_text(ini(server.url, 0.1))
    with Process(tmp_path) as daemon:
        os.truncate(daemon.log_file, 0)
        daemon.reload(ini(server.url, 0.2))
        daemon.until(lambda: "SIGHUP" in daemon.log)
        assert "\0" not in daemon.log  # no hole where the cut lines were
        assert "polling http" not in daemon.log


def test_merge_takes_what_may_change_and_keeps_the_rest() -> None:
    old = load_config(environment={}, flags=["worker.id=me"])
    new = load_config(
        environment={},
        flags=[
            "worker.id=you",
            "worker.poll_interval=9",
            "server.results_path=/r",
            "database.rotate=monthly",
        ],
    )
    merged = merge(old, new)
    assert (merged.worker.poll_interval, merged.worker.id) == (9, "you")
    assert (merged.server.results_path, merged.database.rotate) == ("", "never")
    assert differing(old, merged) == "[worker] id, [worker] poll_interval"
    assert differing(merged, new) == "[server] results_path, [database] rotate"
    assert merge(old, old) == old
    assert differing(old, old) == "nothing"


def test_an_image_behind_a_url_at_fault_outlives_it(server: ScriptedServer, tmp_path: Path) -> None:
    """The server gives it away once."""
    mended = Event()
    server.script("/image", offer("t1", "/1.png"), Reply(204))
    server.script("/1.png", lambda _: image("") if mended.is_set() else Reply(500))
    with Reloadable(tmp_path, server.url) as reloadable:
        wait_for(lambda: asked(server, "/1.png"))
        reloadable.reload(ini(server.url, 0.2))
        wait_for(lambda: not reloadable.daemon.alarm.reload_requested)
        mended.set()
        wait_for(lambda: records(tmp_path))
