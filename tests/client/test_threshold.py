"""The threshold: asked for, understood in each form, and a fault when it is none."""

import logging

import pytest

from tests.client.helpers import NewClient
from tests.scripted_server import Reply, ScriptedServer
from worker.client import ServerClient
from worker.errors import RetryLater


@pytest.mark.parametrize(
    "body", ['{"threshold": 0.35}', "0.35", " .35 ", '"0.35"', '{"threshold": "0.35", "a": 1}']
)
def test_the_threshold_is_pulled(server: ScriptedServer, client: ServerClient, body: str) -> None:
    server.script("/threshold", Reply(200, body.encode(), {"Content-Type": "text/plain"}))

    assert client.pull_threshold() == 0.35


@pytest.mark.parametrize(
    "body",
    [
        *("", "abc", "7", "-1", "true", "null", "NaN", "[0.5]", "[" * 9_000, "<html>0.5</html>"),
        *('{"a": 0.5}', '{"threshold": "abc"}', "a" * 100_000, " " * 20_000 + "0.5"),
    ],
)
def test_a_threshold_that_is_none_is_a_fault(
    server: ScriptedServer, client: ServerClient, body: str
) -> None:
    server.script("/threshold", Reply(200, body.encode()))

    with pytest.raises(RetryLater, match=r"is not in 0\.\.1") as raised:
        client.pull_threshold()
    assert len(str(raised.value)) < 400


def test_a_threshold_in_percent_is_said_to_be_one(
    server: ScriptedServer, client: ServerClient
) -> None:
    server.script("/threshold", Reply(200, b'{"threshold": 30}'))

    with pytest.raises(RetryLater, match=r"threshold 30 is not in 0\.\.1; did you mean 0\.3\?"):
        client.pull_threshold()


def test_without_a_threshold_the_fallback_applies_and_the_log_says_so_once(
    server: ScriptedServer, new_client: NewClient, caplog: pytest.LogCaptureFixture
) -> None:
    client = new_client(fallback_threshold=0.7)

    with caplog.at_level(logging.DEBUG):
        assert [client.pull_threshold() for _ in range(3)] == [0.7] * 3
    assert [record.message.count("0.7") for record in caplog.records] == [1]
