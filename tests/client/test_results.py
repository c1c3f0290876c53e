"""Posting a result: accepted, refused for good, or tried again."""

import json

import pytest

from tests.client.helpers import RECORD, sha256
from tests.scripted_server import Reply, ScriptedServer
from worker.client import ServerClient
from worker.errors import RetryLater, ServerRefuses


@pytest.mark.parametrize("status", [200, 201, 202, 204, 409])
def test_a_posted_record_is_accepted(
    server: ScriptedServer, client: ServerClient, status: int
) -> None:
    server.script("/results", Reply(status))

    assert client.post_result(RECORD, lease_id="lease-1") is None

    (posted,) = server.requests
    assert (posted.method, json.loads(posted.body)) == ("POST", RECORD)
    assert posted.headers["Content-Type"] == "application/json"
    assert posted.headers["Idempotency-Key"] == "task-1"
    assert posted.headers["X-Lease-Id"] == "lease-1"


@pytest.mark.parametrize("status", [400, 410, 413, 415, 422])
def test_a_record_may_be_refused_for_good(
    server: ScriptedServer, client: ServerClient, status: int
) -> None:
    server.script("/results", Reply(status, b"no\x1b[2J such task", {"Content-Type": "text/plain"}))

    refusal = client.post_result(RECORD, lease_id=None)

    assert refusal == f"status {status} ('no[2J such task')"
    assert "X-Lease-Id" not in server.requests[0].headers


@pytest.mark.parametrize("status", [301, 401, 403, 404, 405, 408, 429, 500, 503])
def test_any_other_answer_to_a_post_is_tried_again(
    server: ScriptedServer, client: ServerClient, status: int
) -> None:
    server.script("/results", Reply(status, headers={"Retry-After": "3"}))

    with pytest.raises(RetryLater) as raised:
        client.post_result(RECORD, lease_id=None)
    assert isinstance(raised.value, ServerRefuses) == (status in (301, 401, 403, 404, 405))
    if status in (404, 405):
        assert "[server] results_path" in str(raised.value)


@pytest.mark.parametrize("task_id", ["a" * 201, "zwei Wörter", "a b", "a\nX-Evil: 1"])
def test_an_unwieldy_task_id_is_hashed_for_its_key(
    server: ScriptedServer, client: ServerClient, task_id: str
) -> None:
    server.script("/results", Reply(204))

    client.post_result({"task_id": task_id}, lease_id=None)

    assert server.requests[0].headers["Idempotency-Key"] == sha256(task_id.encode())
