"""The token: where it comes from, when it is read again, and that no message shows it."""

import json
import logging
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.client.helpers import RECORD, TEXT, TOKEN, NewClient, json_reply, pulled
from tests.scripted_server import Reply, ScriptedServer
from worker.client.bearer_token import hide_token
from worker.errors import RetryLater, ServerRefuses, UsageError


def token_file(tmp_path: Path, content: str = TOKEN, mode: int = 0o600) -> Path:
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(mode)
    return file


def test_the_token_comes_from_its_file_or_first_from_the_environment(
    server: ScriptedServer, new_client: NewClient, tmp_path: Path
) -> None:
    server.script("/image", Reply(204))
    file = token_file(tmp_path, f" {TOKEN}\r\n")

    new_client(token_file=file).pull_image()
    new_client(token_file=file, token="other").pull_image()

    sent = [request.headers["Authorization"] for request in server.requests]
    assert sent == [f"Bearer {TOKEN}", "Bearer other"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_token_file_that_others_may_read_is_refused(
    new_client: NewClient, tmp_path: Path, mode: int
) -> None:
    file = token_file(tmp_path, mode=mode)

    with pytest.raises(UsageError, match=f"chmod 600 {file}"):
        new_client(token_file=file)


@pytest.mark.parametrize("content", ["", "\n", "two words", "a\r\nX-Evil: 1", "tökén", "a" * 9_000])
def test_a_token_that_is_none_is_refused_and_not_shown(
    new_client: NewClient, tmp_path: Path, content: str
) -> None:
    file = token_file(tmp_path, content)

    for keys in ({"token_file": file}, {"token": content}):
        with pytest.raises(UsageError, match="holds no token") as raised:
            new_client(**keys)
        assert not content.strip() or content not in str(raised.value)


def test_a_missing_token_file_is_named(new_client: NewClient, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"token_file .*nothing: cannot be read: No such file"):
        new_client(token_file=tmp_path / "nothing")


def test_after_a_401_the_token_is_read_again(
    server: ScriptedServer,
    new_client: NewClient,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.script("/image", Reply(204), Reply(401), Reply(401), Reply(204), Reply(401), Reply(204))
    file = token_file(tmp_path, "old")
    client = new_client(token_file=file)

    client.pull_image()
    file.write_text("new")
    file.chmod(0o644)  # it cannot be used: the last good one stays
    for _ in range(2):
        with pytest.raises(ServerRefuses):
            client.pull_image()
    client.pull_image()
    assert "chmod 600" in caplog.text
    file.chmod(0o600)
    with pytest.raises(ServerRefuses):
        client.pull_image()
    client.pull_image()

    sent = [request.headers["Authorization"] for request in server.requests]
    assert sent == ["Bearer old"] * 5 + ["Bearer new"]


AWKWARD = 'p"q/r\\s+t=u%v&w<x>' * 2
LONG = "".join(f"{i:04x}" for i in range(2_000))  # 8,000 characters


def ways_to_write(token: str) -> list[str]:
    """The token as a server may repeat it."""
    return [
        token,
        f"{token[:4]}\0{token[4:]}",
        json.dumps(token),
        json.dumps(token).replace("/", "\\/"),
        "".join(f"\\u{ord(char):04x}" for char in token),
        quote(token, safe=""),
        "".join(f"%{ord(char):02x}" for char in token),
        token[: len(token) * 2 // 3],
        token[len(token) // 3 :],
    ]


@pytest.mark.parametrize("token", [TOKEN, AWKWARD, LONG], ids=["plain", "awkward", "long"])
def test_the_token_is_in_no_message_however_the_server_repeats_it(
    server: ScriptedServer, new_client: NewClient, caplog: pytest.LogCaptureFixture, token: str
) -> None:
    client = new_client(token=token, results_path="/results")
    messages = []
    with caplog.at_level(logging.DEBUG):
        for way in ways_to_write(token):
            body = f"bad token {way}".encode()
            in_header = way.replace("\0", "")
            server.script(
                "/image",
                Reply(401, body, TEXT),
                Reply(302, headers={"Location": f"/login?token={in_header}"}),
                Reply(200, b"", {"Content-Type": f"text/{in_header}"}),
            )
            server.script("/threshold", Reply(401, body, TEXT), Reply(200, body, TEXT))
            server.script("/results", Reply(400, body, TEXT))
            for call in (*[client.pull_image] * 3, *[client.pull_threshold] * 2):
                with pytest.raises(RetryLater) as raised:
                    call()
                messages.append(str(raised.value))
            messages.append(str(client.post_result(RECORD, lease_id=None)))

    for message in messages:
        assert "***" in message
    for piece in {token[i : i + 8] for i in range(len(token) - 7)}:
        assert piece not in "\n".join(messages) + caplog.text


@pytest.mark.parametrize("token", [TOKEN, AWKWARD, LONG], ids=["plain", "awkward", "long"])
def test_the_token_is_in_nothing_that_is_recorded_of_an_image(
    server: ScriptedServer, new_client: NewClient, token: str
) -> None:
    client = new_client(token=token)
    for way in ways_to_write(token):
        server.script(
            "/image",
            json_reply(image="YWJj", task_id=f"a{way}", file_name=f"{way}.png"),
            json_reply(image="YWJj", task_id=f"b{way}", threshold=f"{way}"),
            json_reply(image="YWJj", task_id=f"c{way}", file_name=f"a/{way}"),
        )
        images = [pulled(client) for _ in range(3)]

        assert len({image.task_id for image in images}) == 3
        assert "***" in str(images[1].problem)
        recorded = "".join(f"{i.task_id}{i.file_name}{i.problem}" for i in images)
        for piece in {token[i : i + 8] for i in range(len(token) - 7)}:
            assert piece not in recorded


def test_a_message_without_the_token_is_left_as_it_is() -> None:
    for text in ("100%25 of \\u0041 'quoted'", "C:\\files", "", "s3cr3t", "\\"):
        assert hide_token(text, TOKEN) == text
    assert hide_token(f"a{TOKEN}b", TOKEN) == "***"
    assert hide_token("a\0b", None) == "ab"


def test_the_token_is_in_no_repr(new_client: NewClient) -> None:
    client = new_client(token=TOKEN)
    assert TOKEN not in repr(client) + repr(vars(client))
