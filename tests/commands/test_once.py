"""`once`: its exit code says what the server made of it."""

from tests.photographs import SAMPLES
from tests.processes import Call
from tests.scripted_server import Reply, ScriptedServer

PHOTOGRAPH = {"Content-Type": "image/jpeg", "X-Task-Id": "t1"}


def test_once_exits_with_what_the_server_made_of_it(call: Call, server: ScriptedServer) -> None:
    arguments = ("once", "--url", server.url, "--set", "server.results_path=/results")
    server.script("/image", Reply(body=SAMPLES["coffee.jpg"], headers=PHOTOGRAPH), Reply(204))
    server.script("/results", Reply(503))
    owed = call(*arguments)
    assert (owed.returncode, "1 results are still to post" in owed.stderr) == (1, True)
    server.script("/results", Reply(201))
    assert call(*arguments).returncode == 0
    server.script("/image", Reply(401))
    refused = call(*arguments)
    assert (refused.returncode, "[server] token_file" in refused.stderr) == (4, True)
    unreachable = call("once", "--url", "http://127.0.0.1:1")
    assert unreachable.returncode == 3
    assert "http://127.0.0.1:1" in unreachable.stderr
