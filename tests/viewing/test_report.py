"""`report`: the sums are right at any size, and nothing that a server names becomes markup."""

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.processes import Call
from worker.database import Database
from worker.errors import DatabaseUnusable, Stop
from worker.files import replace_file
from worker.record import EMOTIONS, Record
from worker.viewing.report import render, whole_ticks
from worker.viewing.results import Filter, checked
from worker.viewing.totals import FEWEST_BARS, LATEST, MOST_BARS, count_records, time_bars

COLOURS = (*EMOTIONS, "none", "images", "values", "errors", "mark")
EVIL = "<script>alert(1)</script>\u202e\ud800$x^\"' onerror=alert(2).png"
START = datetime(2026, 11, 24, 12, tzinfo=UTC)


def record(name: str = "a.png", *, after: timedelta = timedelta(), **keys: object) -> Record:
    time = (START + after).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    whole = {"file_name": name, "threshold": 0.2, "faces": [], "processed_at": time}
    return whole | {"elapsed_ms": 30.0} | keys


def face(**emotions: float) -> Record:
    return {"face_id": 1, **emotions, "bbox": ["1", "2", "3", "4"]}


class Page(HTMLParser):
    """What a browser would make of the page: tags with their attributes, and the table's cells."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.cells: list[str] = []
        self.feed(content.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells and self.tags[-1] in ("td", "div"):
            self.cells[-1] += data.strip()


def test_the_sums_are_those_of_the_records() -> None:
    lost: Record = {"type": "not_an_image", "message": "x"}
    records = [
        record(faces=[face(anger=0.9, fear=0.3), face(fear=0.25)], elapsed_ms=10.0),
        record(faces=[face()], threshold=0.5, elapsed_ms=20.0),
        record(elapsed_ms=90.0, after=timedelta(minutes=2)),
        {"file_name": "x", "threshold": None, "faces": [], "error": lost},
    ]
    totals = count_records(records)
    assert (totals.images, totals.faces, len(totals.times)) == ({"-": 4}, {"-": 3}, 3)
    assert totals.emotions == {"anger": 1, "fear": 1, "none": 1}
    assert totals.faces_an_image == {2: 1, 1: 1, 0: 1}
    assert {i: n for i, n in enumerate(totals.probabilities) if n} == {90: 1, 30: 1, 25: 1}
    assert totals.thresholds == {0.2: 2, 0.5: 1}
    assert totals.kinds == {"not_an_image": 1}
    minute = int(START.timestamp() // 60)
    edges, bars = time_bars(totals)
    at = int(np.searchsorted(edges, minute))
    found = {name: heights.nonzero()[0].tolist() for name, heights in bars.items()}
    assert {name: places for name, places in found.items() if places} == {
        "images": [at, at + 2],
        **{name: [at] for name in ("anger", "fear", "none")},
    }
    assert bars["images"][[at, at + 2]].tolist() == [2, 1]
    page = render(totals, "results.json", "now").decode()
    assert "<dt>analysis, median</dt><dd>20.0 ms</dd>" in page  # of 10, 20, 90
    assert "<dt>analysis, 95 % within</dt><dd>83.0 ms</dd>" in page
    assert "<dt>period (UTC)</dt><dd>2026-11-24 12:00 to 2026-11-24 12:02</dd>" in page
    assert 'aria-label="Errors by kind: not_an_image 1"' in page
    assert 'aria-label="Emotions in total: anger 1, fear 1, none 1"' in page
    assert (
        'aria-label="Analysis time: images 3, milliseconds from 0 to 88.6, median 20.0 ms, '
        '95 % within 83.0 ms"' in page
    )


def test_a_short_time_stands_in_the_middle_of_bars_of_a_sensible_width() -> None:
    edges, bars = time_bars(count_records([record()]))
    images = bars["images"]
    assert len(images) == FEWEST_BARS
    assert images.argmax() in (FEWEST_BARS // 2 - 1, FEWEST_BARS // 2)
    assert set(np.diff(edges)) == {1}


@pytest.mark.parametrize(
    ("most", "expected"),
    [(0, [0, 1]), (1, [0, 1]), (3, [0, 1, 2, 3]), (5, [0, 2, 4, 6]), (104, [0, 50, 100, 150])],
)
def test_axes_have_whole_numbers(most: int, expected: list[int]) -> None:
    assert whole_ticks(most) == expected


def test_what_is_no_number_is_said_and_stands_in_the_table() -> None:
    nan, endless = float("nan"), float("inf")
    odd = record(faces=[face(anger=nan, fear=0.4)], elapsed_ms=endless, threshold=nan)
    totals = count_records(checked([odd, record(faces=[face(anger=nan)])], "r.json"))
    assert totals.not_numbers == 4
    page = render(totals, "r", "now")
    assert b"<dt>values that are no numbers (NaN)</dt><dd>4</dd>" in page
    assert "1: anger nan" in Page(page).cells[-1]
    assert totals.emotions == {"fear": 1, "none": 1}


def test_each_worker_has_its_line_the_busiest_first() -> None:
    few = record(worker="camera-2", elapsed_ms=7.0)
    page = render(
        count_records([few, record(worker="camera-1"), record(worker="camera-1")]), "r", ""
    )
    assert Page(page).cells[:12] == [
        *("camera-1", "2", "0", "0", "30.0 ms", "30.0 ms"),
        *("camera-2", "1", "0", "0", "7.0 ms", "7.0 ms"),
    ]


def luminance(color: str) -> float:
    """Of #rgb or #rrggbb, as WCAG 2 has it."""
    digits = color.strip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    levels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in levels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_each_colour_stands_out_from_the_page_by_day_and_by_night() -> None:
    page = render(count_records([]), "r", "now").decode()
    light, dark = re.findall(r":root \{(.*?)\}", page, re.DOTALL)
    for scheme in (light, dark):
        colors = dict(re.findall(r"--(\w+): (#\w+);", scheme))
        behind = luminance(colors.pop("page"))
        for name in colors.keys() - {"line", "box"}:
            dim, bright = sorted((behind, luminance(colors[name])))
            assert (bright + 0.05) / (dim + 0.05) >= 3, (name, colors[name])
    assert {*COLOURS} <= set(re.findall(r"--(\w+):", dark))


def test_a_long_time_gets_wider_bars_and_loses_nothing() -> None:
    gap = timedelta(minutes=7)
    count = 40 * MOST_BARS
    records = (record(after=number * gap, faces=[face(anger=0.9)]) for number in range(count))
    edges, bars = time_bars(count_records(records))
    assert 20 < len(edges) - 1 == len(bars["images"]) <= MOST_BARS + 1
    assert set(np.diff(edges)) == {720}
    sums = {name: heights.sum() for name, heights in bars.items() if heights.any()}
    assert sums == {"images": count, "anger": count}


@pytest.mark.parametrize("wrong", ["0001-01-01", "1969-12-31T23:59:00Z", "9999-12-31"])
def test_a_clock_that_was_wrong_spoils_no_picture(wrong: str) -> None:
    page = render(count_records([record(processed_at=wrong), record()]), "r", "now")
    assert Page(page).tags.count("figure") == 4
    assert b"1 records carry no time, or an impossible one." in page
    assert wrong in Page(render(count_records([record(processed_at=wrong)]), "r", "")).cells


def test_only_records_since_a_time_are_counted() -> None:
    records = [record("old"), record("new", after=timedelta(days=1)), {"file_name": "no time"}]
    totals = count_records(Filter(since=START + timedelta(hours=1)).select(records))
    assert [found["file_name"] for found in totals.latest] == ["new"]


@pytest.mark.parametrize("count", [0, 1])
def test_a_file_of_none_or_one_record_has_a_report(count: int) -> None:
    page = render(count_records([record(faces=[face(fear=0.4)])] * count), "r", "now")
    parsed = Page(page)
    assert parsed.tags.count("tr") == 1 + 3 * count
    assert (b"There is no record" in page) == (count == 0)
    assert (parsed.tags.count("figure") > 3) == (count == 1)


def test_what_a_server_names_is_text_and_nothing_is_fetched() -> None:
    lost: Record = {"type": EVIL, "message": EVIL}
    page = render(count_records([record(EVIL, error=lost)]), EVIL, "now")
    parsed = Page(page)
    assert parsed.tags.count("script") == 1
    assert any(
        cell.startswith("<script>alert(1)</script>\ufffd\ufffd$x^\"'") for cell in parsed.cells
    )
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    addresses = [value for name, value in parsed.attributes if name in ("src", "href")]
    assert addresses
    assert all(address.startswith("data:") for address in addresses)
    assert b"default-src &#39;none&#39;" in page or b"default-src 'none'" in page


def test_the_table_has_the_latest_first() -> None:
    page = Page(render(count_records(record(f"{i}.png") for i in range(LATEST + 3)), "r", "now"))
    names = page.cells[6 + 1 :: 4]  # after the line of the only worker
    assert names == [f"{i}.png" for i in range(LATEST + 2, 2, -1)]


def test_a_record_of_another_program_is_named() -> None:
    with pytest.raises(DatabaseUnusable, match=r"r\.json: record 2 is not one of this worker"):
        count_records(checked([record(), {"name": "somebody"}], "r.json"))
    with pytest.raises(DatabaseUnusable, match="record 1 is not one of this worker"):
        count_records(checked([record(faces=[face(anger="much")])], ""))  # type: ignore[arg-type]


def test_the_command_writes_one_page_from_several_files(tmp_path: Path, call: Call) -> None:
    with Database(tmp_path / "results-a.json") as first:
        first.append(record("old", faces=[face(happiness=0.4)], after=timedelta(days=-1)))
        first.append(record("a", faces=[face(fear=0.4)], after=timedelta(minutes=1)))
    with Database(tmp_path / "results-b.json") as second:
        second.append(record("b", faces=[face(anger=0.4)], after=timedelta(minutes=2)))
    files = ("--database", "results-b.json", "results-a.json")
    done = call("report", "--since", "2026-11-24", *files)
    assert (done.returncode, done.stdout) == (0, "report.html: 2 images, 2 faces\n")
    page = (tmp_path / "report.html").read_text()
    assert "<h1>results-b.json, results-a.json</h1>" in page
    assert "; since: 2026-11-24 00:00:00+00:00" in page
    assert "anger 1, fear 1" in page
    assert Page(page.encode()).cells[6 + 1 :: 4] == ["b", "a"]
    assert not list(tmp_path.glob("*.partial"))
    done = call("report", "--emotion", "fear", "--last", "1", *files)
    assert done.stdout == "report.html: 1 images, 1 faces\n"


def test_before_anything_is_recorded_there_is_no_report_and_no_fault(
    tmp_path: Path, call: Call
) -> None:
    done = call("report")
    assert (done.returncode, done.stderr) == (
        *(0, "nothing is recorded yet: there is no results.json\n"),
    )
    assert not list(tmp_path.iterdir())


def test_a_disk_that_takes_no_page_is_an_error_that_leaves_the_old_one(
    tmp_path: Path, call: Call
) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"images": {"1": record()}}))
    (tmp_path / "report.html").write_text("old")
    (tmp_path / "report.html.partial").symlink_to("/dev/full")
    done = call("report")
    assert done.returncode == 1
    assert "cannot write report.html: No space left on device" in done.stderr
    assert (tmp_path / "report.html").read_text() == "old"


@pytest.mark.parametrize("path", ["", ".", "..", "/", "folder", "folder/..", "/dev/null"])
def test_a_folder_or_device_is_not_replaced(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(Stop, match="no ordinary file"):
        replace_file(Path(path), b"x")
