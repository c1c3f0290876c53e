"""What answers say, whatever they say: names, ids, thresholds, base64."""

import base64
import contextlib
import time
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.client.answers import (
    MAX_JSON_VALUES,
    check_threshold,
    clean_file_name,
    decode_base64,
    idempotency_key,
    parse_json,
    read_offer,
    threshold_in,
    visible,
)
from worker.errors import ImageLost

# What can come in a header: any bytes, read as Latin-1.
header_texts = st.binary(max_size=300).map(lambda value: value.decode("latin-1"))


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="face.png"', "face.png"),
        ("inline; filename=face.png", "face.png"),
        ("attachment; filename*=UTF-8''b%C3%BCcher%20%E2%82%AC.png", "bücher €.png"),
        ("attachment; filename*=iso-8859-1''b%FCcher.png", "bücher.png"),
        # RFC 6266: the extended form goes first, wherever it stands.
        ("attachment; filename=\"x.png\"; filename*=UTF-8''%C3%BC.png", "ü.png"),
        ("attachment; filename*=UTF-8''%C3%BC.png; filename=\"x.png\"", "ü.png"),
        ("attachment; FILENAME=face.png", "face.png"),
        ('attachment; filename="a;b \\"c\\".png"', 'a;b "c".png'),
        ('attachment; filename="bücher.png"'.encode().decode("latin-1"), "bücher.png"),
        ('attachment; filename="bücher.png"', "bücher.png"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ("attachment; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd", "passwd"),
        ('attachment; filename="C:\\\\Users\\\\me\\\\face.png"', "face.png"),
        ('attachment; filename="fa\x1b[31mce\x7f.png"', "fa[31mce.png"),
        ("attachment; filename*=UTF-8''gnp%E2%80%AE.exe", "gnp.exe"),
        ("attachment; filename*=no-such-charset''a.png", "a.png"),
        # What senders forget: the quotes, the right escapes.
        ("attachment; filename=my face.png", "my face.png"),
        ("attachment; filename=bücher.png; size=7", "bücher.png"),
        ("filename=face.png", None),
        ("attachment; filename*=UTF-8''a; filename*0=b", "b"),
        ("attachment; filename*0*=UTF-8''%C3%BC; filename*1=b.png", "üb.png"),
        ('attachment; filename=".."', None),
        ('attachment; filename="/"', None),
        ('attachment; filename=""', None),
        ("attachment", None),
        ("", None),
    ],
)
def test_a_file_name_is_read_from_content_disposition(disposition: str, name: str | None) -> None:
    assert read_offer({"Content-Disposition": disposition}, {}).file_name == name


def test_the_second_and_third_choice_of_a_file_name() -> None:
    headers = {"Content-Disposition": "inline", "X-File-Name": "dir/b.png"}

    assert read_offer(headers, {"file_name": "c.png"}).file_name == "b.png"
    assert read_offer({}, {"file_name": "dir\\c.png"}).file_name == "c.png"
    assert read_offer({}, {"file_name": ["c.png"]}).file_name is None


@given(header_texts | st.text(), st.sampled_from(["plain", "quoted", "extended", "whole"]))
@example("..\\..\\\x00..", "quoted")
@example("a" * 5_000, "plain")
def test_no_file_name_ever_leads_anywhere(text: str, form: str) -> None:
    header = {
        "plain": f"attachment; filename={text}",
        "quoted": f'attachment; filename="{text}"',
        "extended": f"attachment; filename*=UTF-8''{text}",
        "whole": text,
    }[form]
    headers = {"Content-Disposition": header[:5_000]}

    for name in (
        read_offer(headers, {}).file_name,
        read_offer({"X-File-Name": text}, {}).file_name,
        read_offer({}, {"file_name": text}).file_name,
        clean_file_name(text),
    ):
        assert name is None or name not in ("", ".", "..")
        assert not set(name or "") & set("/\\")
        assert all(unicodedata.category(char) not in ("Cc", "Cs") for char in name or "")
        assert len(name or "") <= 255


@pytest.mark.parametrize(
    ("headers", "document"),
    [
        ({"Content-Disposition": 'inline; filename="' + ";" * 65_000}, {}),
        ({}, {"file_name": "a" * 40_000_000}),
        ({}, {"task_id": "a" * 40_000_000}),
    ],
)
def test_no_long_text_keeps_us_busy(headers: dict[str, str], document: dict[str, object]) -> None:
    begin = time.monotonic()
    read_offer(headers, document)
    assert time.monotonic() - begin < 30


@given(st.text(max_size=2_000), st.text(max_size=2_000))
@example("a\x00", "a")
@example("\ud800", "\ud801")
@example("a" * 1_001, "a" * 1_002)
def test_a_task_id_can_be_stored_and_two_never_become_one(one: str, other: str) -> None:
    ids = [read_offer({}, {"task_id": task}).task_id for task in (one, other)]

    assert (ids[0] == ids[1]) == (one == other)
    for task_id in ids:
        assert task_id is None or task_id == visible(task_id)
        assert len(task_id or "") <= 1_000
        key = idempotency_key(task_id or "")
        assert key.isascii() and key.isprintable() and " " not in key and 0 < len(key) <= 200


def test_a_replaced_task_id_has_the_key_of_the_one_that_was_sent() -> None:
    stored = read_offer({}, {"task_id": "job\n1"}).task_id

    assert stored is not None
    assert idempotency_key(stored) == idempotency_key("job\n1")


@pytest.mark.parametrize(
    ("headers", "document", "task_id"),
    [
        ({"X-Task-Id": "h"}, {"task_id": "j"}, "h"),
        ({"ETag": '"e"'}, {"task_id": "j"}, "j"),
        ({"ETag": '"e"'}, {}, "e"),
        ({"ETag": 'W/"e"'}, {}, None),
        ({}, {"task_id": 17}, "17"),
        ({}, {"task_id": True}, None),
        ({}, {"task_id": ""}, None),
        ({}, {"task_id": None}, None),
        ({"X-Task-Id": "ü".encode().decode("latin-1")}, {}, "ü"),
    ],
)
def test_what_names_the_task(
    headers: dict[str, str], document: dict[str, object], task_id: str | None
) -> None:
    assert read_offer(headers, document).task_id == task_id


@pytest.mark.parametrize("hostile", ["a\r\nX-Evil: 1", "a\x00", "ü", " ", "a" * 1_001, ["a"]])
def test_what_no_header_can_carry_back_is_no_lease_and_no_etag(hostile: object) -> None:
    offer = read_offer({"ETag": str(hostile)}, {"lease_id": hostile})

    assert offer.lease_id is None
    if isinstance(hostile, str):
        assert offer.etag is None


@pytest.mark.parametrize("value", [0, 1, 0.35, "0.35", " .5 ", "1.", "1e-1", "+0.2"])
def test_a_threshold_is_a_number_or_a_text(value: Any) -> None:
    assert check_threshold(value) == float(value)


@pytest.mark.parametrize(
    "value",
    [
        *(True, False, None, float("nan"), float("inf"), -0.1, 1.01, 7, 10**400, [], {}),
        *("", "abc", "nan", "inf", "7", "0,5", "0_1", "\u0661", "0.5 0.6"),
        "1" * 1_000_000 + "x",  # a pattern that backtracks would take hours
    ],
)
def test_anything_else_is_no_threshold(value: object) -> None:
    with pytest.raises(ImageLost, match=r"is not in 0\.\.1") as lost:
        check_threshold(value)
    assert len(str(lost.value)) < 300


@given(st.floats() | st.integers() | st.text() | st.booleans() | st.none() | header_texts)
@example(-0.0)
@example("-0")
@example("\x1c0")
def test_a_threshold_is_within_0_and_1_or_none(value: object) -> None:
    with contextlib.suppress(ImageLost):
        threshold = check_threshold(value)
        assert type(threshold) is float and 0 <= threshold <= 1
        assert str(threshold) != "-0.0"


@given(st.floats(0, 1))
def test_every_threshold_is_understood_as_number_text_and_json(value: float) -> None:
    for body in (f'{{"threshold": {value}}}', f'{{"threshold": "{value}"}}', str(value)):
        assert check_threshold(threshold_in(body.encode())) == value


@given(st.binary())
def test_no_threshold_answer_breaks_the_parser(body: bytes) -> None:
    with contextlib.suppress(ImageLost):
        check_threshold(threshold_in(body))


@pytest.mark.parametrize(
    "body", [b"[" * 900, b"[" * 100_000, b"[" + b"1," * MAX_JSON_VALUES + b"1]", b"\xff", b"", b"{"]
)
def test_deep_wide_or_broken_json_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(body)


def test_json_that_nests_deeper_than_the_parser_can_is_refused() -> None:
    with pytest.raises(ValueError, match="deep"):
        parse_json(b"[" * MAX_JSON_VALUES)


@pytest.mark.parametrize(
    "text",
    [
        *("+/+/AA==", "+/+/AA", "+/+/AA=", "-_-_AA==", "-_-_AA", "+/+\n/A\r\nA==\r\n"),
        *("data:image/png;base64,+/+/AA==", "data:;base64,-_-_AA", "Data:image/png;BASE64,+/+/AA"),
        *("data:image/jpeg;charset=utf-8;base64,+/+/\r\nAA==", " +/+/AA== "),
    ],
)
def test_base64_is_decoded_as_it_is_commonly_written(text: str) -> None:
    assert decode_base64(text) == b"\xfb\xff\xbf\x00"


@given(st.binary(), st.booleans(), st.integers(0, 2), st.sampled_from(["", "\n", "\r\n"]))
def test_base64_is_decoded_in_each_alphabet_with_any_padding_and_line_ends(
    content: bytes, url_safe: bool, missing: int, line_end: str
) -> None:
    text = (base64.urlsafe_b64encode if url_safe else base64.b64encode)(content).decode()
    text = text[: len(text) - missing] if text.endswith("=" * missing) else text
    lines = [text[i : i + 76] for i in range(0, len(text), 76)]
    assert decode_base64(line_end.join(lines) + line_end) == content


@pytest.mark.parametrize(
    "text",
    [
        "Y",
        "YWJjY",
        "YW Jj",
        "=YWJj",
        "Y=Jj",
        "%%%%",
        "ü",
        "data:image/png,YWJj",
    ],
)
def test_anything_else_is_no_base64(text: str) -> None:
    with pytest.raises(ImageLost) as lost:
        decode_base64(text)
    assert lost.value.kind == "bad_base64"
