"""Answers that are torn, malformed or endless are faults of the server, and end nothing."""

import contextlib
import gzip
import logging
import socket
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.client.helpers import NOTHING_NEW, RECORD, NewClient, pulled
from tests.scripted_server import (
    HEAD,
    RawServer,
    answering,
    half_body,
    half_chunk,
    read_head,
    reset,
)
from worker.errors import RetryLater, ServerUnreachable

CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
IMAGE = HEAD + b"X-Task-Id: task-1\r\nContent-Length: 3\r\n\r\npng"


@pytest.mark.parametrize(
    "act",
    [
        reset,
        answering(b""),
        answering(b"SSH-2.0-OpenSSH_9.9\r\n"),
        answering(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 1_000 + b"\r\n"),
        answering(b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 100_000),
        answering(HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
        answering(b"HTTP/1.1 2000 OK\r\n\r\n"),
        answering(b"HTTP/1.1 -1 OK\r\n\r\n"),
        answering(b"HTTP/9.9 200 OK\r\n\r\n"),
        answering(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    ],
)
def test_without_a_sound_answer_the_server_is_unreachable_and_asked_once(
    new_client: NewClient, act: Callable[[socket.socket], None]
) -> None:
    with RawServer(act) as raw:
        with pytest.raises(ServerUnreachable, match=raw.url):
            new_client(url=raw.url).pull_image()
        assert raw.connections == 1


@pytest.mark.parametrize(
    "act",
    [
        half_body,
        half_chunk,
        answering(CHUNKED + b"xyz\r\n"),
        answering(CHUNKED + b"-5\r\nabcde\r\n0\r\n\r\n"),
        answering(CHUNKED + b"-0xffff\r\n"),
        answering(CHUNKED + b"3\r\nabc"),
        answering(CHUNKED + b"3\r\nabcde\r\n0\r\n\r\n"),
        answering(CHUNKED + b"\xb2\r\nab\r\n"),
        answering(CHUNKED + b"f" * 40 + b"\r\nabc"),
        answering(CHUNKED + b"1" * 100_000),
        answering(HEAD + b"Content-Encoding: gzip\r\n\r\nno gzip"),
        answering(HEAD + b"Content-Encoding: deflate\r\n\r\nno deflate"),
    ],
)
def test_an_answer_that_breaks_off_is_no_image_and_no_threshold(
    new_client: NewClient, act: Callable[[socket.socket], None]
) -> None:
    with RawServer(act) as raw:
        client = new_client(url=raw.url)
        for call in (client.pull_image, client.pull_threshold):
            with pytest.raises(RetryLater, match="broke off") as raised:
                call()
            assert not isinstance(raised.value, ServerUnreachable)


@pytest.mark.parametrize("status", [b"200 OK", b"409 Conflict", b"422 No"])
@pytest.mark.parametrize("rest", [b"-5\r\nabc", b"xyz\r\n", b"3\r\na", b""])
def test_what_is_wrong_with_the_rest_of_an_answer_changes_nothing_about_a_post(
    new_client: NewClient, status: bytes, rest: bytes
) -> None:
    answer = b"HTTP/1.1 " + status + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + rest
    with RawServer(answering(answer)) as raw:
        client = new_client(url=raw.url, results_path="/results")
        said = client.post_result(RECORD, lease_id=None)
    assert said == ("status 422" if status.startswith(b"422") else None)


@pytest.mark.parametrize("status", [100, 101, 102, 103, 110, 199])
def test_interim_answers_are_passed_over(new_client: NewClient, status: int) -> None:
    interim = b"HTTP/1.1 %d Wait\r\nX-Task-Id: wrong\r\nContent-Length: 9\r\n\r\n" % status
    with RawServer(answering(interim * 3 + IMAGE, interim + NOTHING_NEW)) as raw:
        client = new_client(url=raw.url)

        image = pulled(client)
        assert (image.task_id, image.content) == ("task-1", b"png")
        assert client.pull_image() is None
        assert raw.connections == 1


sound_answers = st.sampled_from(
    [
        IMAGE,
        CHUNKED + b"3\r\npng\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + IMAGE,
        HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"png", mtime=0),
        HEAD + b"Content-Disposition: inline; filename*=UTF-8''a.png\r\nX-Threshold: 0.2\r\n\r\na",
        b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"image": "YWJj", "a": 1}',
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\n0.3",
        b"HTTP/1.1 503 Busy\r\nRetry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /a\r\nSet-Cookie: a=b; Expires=0\r\n\r\n",
    ]
)
tokens = st.sampled_from(
    [b"-", b"\r\n", b"\n", b"\0", b"\xff", b";", b"*", b'"', b"=", b"9" * 5_000, b": ", b"0x", b","]
) | st.binary(max_size=4)


@st.composite
def mutated_answers(draw: st.DrawFn) -> bytes:
    answer = draw(sound_answers)
    for _ in range(draw(st.integers(0, 3))):
        begin = draw(st.integers(0, len(answer)))
        end = begin + draw(st.integers(0, 6))
        answer = answer[:begin] + draw(tokens) + answer[end:]
    return answer[: draw(st.integers(0, len(answer)))] if draw(st.booleans()) else answer


def test_no_answer_ever_ends_us(new_client: NewClient) -> None:
    """Given any torn or mutated answer, each call gives a result or a RetryLater."""
    current = b""

    def act(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(current)

    with RawServer(act) as raw:
        client = new_client(url=raw.url, results_path="/results")

        @given(mutated_answers())
        @settings(max_examples=150)
        @example(CHUNKED + b"-5\r\nabcde\r\n0\r\n\r\n")
        def ask(answer: bytes) -> None:
            nonlocal current
            current = answer
            for call in (
                client.pull_image,
                client.pull_threshold,
                lambda: client.post_result(RECORD, lease_id="l"),
            ):
                with contextlib.suppress(RetryLater):
                    call()

        ask()


@pytest.mark.parametrize(
    "header",
    [
        b" no header at all\r\nSECOND\x1b[31m",
        b"Set-Cookie: a=b; Expires=Wed, 21 Oct " + b"9" * 5_000,
    ],
    ids=["none", "cookie"],
)
def test_headers_that_cannot_be_parsed_stay_out_of_the_log(
    new_client: NewClient,
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
    header: bytes,
) -> None:
    odd = b"HTTP/1.1 204 No Content\r\n" + header + b"\r\n\r\n"
    with RawServer(answering(odd)) as raw, caplog.at_level(logging.DEBUG):
        assert new_client(url=raw.url).pull_image() is None
    assert not caplog.records
    assert not recwarn
