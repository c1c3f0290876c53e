"""`check`: what it looks at, what it says to do, and what it never shows."""

from pathlib import Path

import pytest

import worker.analysis.detection
from tests.photographs import SAMPLES
from tests.processes import Call
from tests.scripted_server import Reply, ScriptedServer
from worker.config import load_config
from worker.demo_server.app import create_app
from worker.demo_server.image_queue import MemoryQueue
from worker.errors import UsageError
from worker.web import WebServer

TOKEN = "s3cr3t-t0k3n"
TEXT = {"Content-Type": "text/plain"}
POSTS = ("--set", "server.results_path=/results")


def lines(call: Call, *arguments: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """The exit code of `check`, and of each line what it is about, its state and its details."""
    done = call("check", *arguments)
    split = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    return done.returncode, {what: (state, details) for state, what, details in split}


def test_all_that_a_first_run_needs_is_tried_in_order(call: Call, server: ScriptedServer) -> None:
    code, said = lines(call, "--url", server.url, *POSTS)
    assert code == 0
    assert {what: state for what, (state, _) in said.items()} == {
        "configuration": "ok",
        "weights": "ok",
        "database": "ok",
        "server": "reachable",
    }
    assert "emotion_net" in said["weights"][1]
    assert "GB free" in said["database"][1]
    assert "threshold 0.2; not tried: GET /image and POST /results" in said["server"][1]
    assert all(
        request.method == "OPTIONS" or request.path == "/threshold" for request in server.requests
    )


def test_a_failure_says_what_to_do_and_the_rest_is_tried_all_the_same(call: Call) -> None:
    nowhere = ("--set", "database.path=/proc/nowhere/results.json")
    code, said = lines(call, "--url", "http://127.0.0.1:1", *nowhere)
    failed = {what: details for what, (state, details) in said.items() if state == "FAILED"}
    assert [*failed] == ["database", "server"]
    assert code == 5  # that of the first
    assert "/proc/nowhere" in failed["database"]
    assert "does the server run there, and is [server] url right?" in failed["server"]


NOTHING = Reply(404)


@pytest.mark.parametrize(
    ("image", "results", "says"),
    [
        (NOTHING, NOTHING, "[server] image_path"),
        (Reply(headers={"Allow": "OPTIONS, POST"}), Reply(), "/image takes OPTIONS, POST, no GET"),
        (Reply(headers={"Allow": "GET, HEAD"}), NOTHING, "[server] results_path"),
        (Reply(204), Reply(headers={"Allow": "get"}), "/results takes GET, no POST"),
        (Reply(401), Reply(), "[server] token_file"),
    ],
)
def test_a_path_that_cannot_serve_is_named_as_far_as_options_shows_it(
    call: Call, server: ScriptedServer, image: Reply, results: Reply, says: str
) -> None:
    server.script("/threshold", NOTHING)  # which alone is no mistake: fallback_threshold applies
    server.script("/image", image)
    server.script("/results", results)
    code, said = lines(call, "--url", server.url, *POSTS)
    state, details = said["server"]
    assert (state, code) == ("FAILED", 4 if image.status == 401 else 2)
    assert says in details


@pytest.mark.parametrize("status", [200, 204, 405, 501])
def test_a_server_that_knows_no_options_is_reachable_and_no_more(
    call: Call, server: ScriptedServer, status: int
) -> None:
    server.script("/image", Reply(status))
    code, said = lines(call, "--url", server.url)
    assert (code, said["server"][0]) == (0, "reachable")
    assert "not tried: GET /image; results are not posted" in said["server"][1]


def test_no_image_is_taken_from_the_queue_of_a_real_server(call: Call) -> None:
    queue = MemoryQueue(threshold=0.3)
    queue.add(SAMPLES["coffee.jpg"], "coffee.jpg")
    with WebServer(create_app(queue)) as served:
        code, said = lines(call, "--url", served.url, *POSTS)
    assert (code, said["server"][0]) == (0, "reachable")
    assert queue.counts() == {"waiting": 1, "leased": 0, "done": 0}


def test_the_exit_code_is_that_of_the_first_line_that_failed(
    call: Call, server: ScriptedServer
) -> None:
    server.script("/threshold", Reply(403))
    assert lines(call, "--url", server.url)[0] == 4
    assert lines(call, "--url", "http://127.0.0.1:1")[0] == 3
    wrong = ("--set", "classification.weights=none")
    assert lines(call, "--url", "http://127.0.0.1:1", *wrong)[0] == 2
    code, said = lines(call, "--set", "server.timeout=-1")
    assert (code, [*said]) == (2, ["configuration"])
    assert "[server] timeout = -1: must be" in said["configuration"][1]


def test_a_detector_that_does_not_work_is_found_before_the_first_image_comes(
    call: Call, server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in OpenCV 5, which has none.
    monkeypatch.setattr(worker.analysis.detection, "CASCADES", tmp_path)
    _, said = lines(call, "--url", server.url)
    assert [what for what, (state, _) in said.items() if state == "FAILED"] == ["weights"]


def test_the_token_is_used_and_never_shown(
    call: Call, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_SERVER_TOKEN", TOKEN)
    for reply in (
        Reply(body=b"0.2"),
        Reply(401, f"not {TOKEN}".encode(), TEXT),
        Reply(200, TOKEN.encode(), TEXT),
    ):
        server.script("/threshold", reply)
        done = call("check", "--url", server.url)
        assert server.requests[-1].headers["Authorization"] == f"Bearer {TOKEN}"
        assert TOKEN not in done.stdout + done.stderr


def test_a_token_in_the_command_line_where_ps_shows_it_is_refused() -> None:
    with pytest.raises(UsageError, match="a token does not belong here") as raised:
        load_config(environment={}, flags=[f"server.token={TOKEN}"])
    assert TOKEN not in str(raised.value)
