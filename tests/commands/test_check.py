"""`check`: what it looks at, what it says to do, and what it never shows."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import worker.analysis.detection
from tests.scripted_server import Reply, ScriptedServer
from worker.commands.check import check
from worker.config import Config, load_config
from worker.errors import WorkerError

TOKEN = "s3cr3t-t0k3n"
TEXT = {"Content-Type": "text/plain"}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        scripted.script("/threshold", Reply(body=b"0.2"))
        yield scripted


def configured(folder: Path, url: str, *flags: str, token: str | None = None) -> Config:
    environment = {"WORKER_SERVER_TOKEN": token} if token else {}
    path = folder / "results.json"
    return load_config(
        environment=environment, flags=(f"server.url={url}", f"database.path={path}", *flags)
    )


def checked(config: Config) -> tuple[list[tuple[str, str, str]], list[WorkerError]]:
    lines: list[tuple[str, str, str]] = []
    errors = check(config, lambda *line: lines.append(line))
    return lines, errors


def test_all_that_a_first_run_needs_is_tried_in_order(
    server: ScriptedServer, tmp_path: Path
) -> None:
    flags = ("metrics.address=127.0.0.1:0", "server.results_path=/results")
    lines, errors = checked(configured(tmp_path, server.url, *flags))
    assert not errors
    assert [(state, what) for state, what, _ in lines] == [
        ("ok", "weights"),
        ("ok", "database"),
        ("ok", "metrics"),
        ("reachable", "server"),
    ]
    said = {what: details for _, what, details in lines}
    assert "GB free" in said["database"]
    assert said["metrics"].startswith("http://127.0.0.1:")
    assert "threshold 0.2; results are posted to /results" in said["server"]
    assert [request.path for request in server.requests] == ["/threshold"]


def test_a_failure_says_what_to_do_and_the_rest_is_tried_all_the_same(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flags = (f"metrics.address={port}", "database.path=/proc/nowhere/results.json")
        lines, errors = checked(configured(tmp_path, "http://127.0.0.1:1", *flags))
    said = {what: details for state, what, details in lines if state == "FAILED"}
    assert [*said] == ["database", "metrics", "server"]
    assert len(errors) == 3
    assert "/proc/nowhere" in said["database"]
    assert f"[metrics] address = 127.0.0.1:{port}" in said["metrics"]
    assert "does the server run there, and is [server] url right?" in said["server"]


def test_a_detector_that_does_not_work_is_found_before_the_first_image_comes(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        worker.analysis.detection, "CASCADES", tmp_path
    )  # as in OpenCV 5, which has none
    lines, errors = checked(configured(tmp_path, server.url))
    assert [what for state, what, _ in lines if state == "FAILED"] == ["weights"]
    assert len(errors) == 1


def test_the_token_is_used_and_never_shown(
    server: ScriptedServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = configured(tmp_path, server.url, token=TOKEN)
    for reply in (
        Reply(body=b"0.2"),
        Reply(401, f"not {TOKEN}".encode(), TEXT),
        Reply(200, TOKEN.encode(), TEXT),
    ):
        server.script("/threshold", reply)
        lines, errors = checked(config)
        assert server.requests[-1].headers["Authorization"] == f"Bearer {TOKEN}"
        said = "".join(details for _, _, details in lines)
        assert TOKEN not in f"{said}{errors}{config!r}{config.model_dump()}{capfd.readouterr()}"


def test_a_token_in_the_command_line_where_ps_shows_it_is_refused() -> None:
    with pytest.raises(WorkerError, match="a token does not belong here") as raised:
        load_config(environment={}, flags=[f"server.token={TOKEN}"])
    assert TOKEN not in str(raised.value)
