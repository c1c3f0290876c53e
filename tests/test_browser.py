"""The pages in a real browser: headless Chromium, driven by Playwright."""

import csv
import json
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data

from tests.photographs import SAMPLES, encode
from tests.processes import run_worker, start
from worker.config import PROJECT
from worker.database.kept_images import KeptImages
from worker.demo_server.app import create_app
from worker.demo_server.image_queue import MemoryQueue
from worker.record import Record
from worker.training.label import open_ballot
from worker.viewing.live import show_on_page
from worker.viewing.report import render
from worker.viewing.thumbnails import thumbnails
from worker.viewing.totals import count_records
from worker.web import WebServer

playwright = pytest.importorskip(
    "playwright.sync_api", reason="the pages in a browser: python -m pip install playwright"
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="the pages in a browser: apt-get install chromium"),
    pytest.mark.timeout(400),
]
WEIGHTS = PROJECT / "weights" / "emotion_net_small.onnx"


class Window:
    """A page of the browser, and what its console and its network said."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda said: self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as tool:
        # Root, as in a container, cannot have Chromium's own sandbox.
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def window(browser: Any) -> Iterator[Window]:
    context = browser.new_context(viewport={"width": 1200, "height": 1000})
    yield Window(context.new_page())
    context.close()


def until(page: Any, expression: str) -> None:
    """Wait for JavaScript to be true. Playwright's own way needs eval(), which our pages forbid."""
    for _ in range(2000):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(10)
    raise AssertionError(expression)


def record(number: int, name: str, **emotions: float) -> Record:
    time = datetime(2026, 11, 24, 12, tzinfo=UTC) + timedelta(minutes=number)
    box = ["174", "66", "272", "164"]
    return {
        "file_name": name,
        "threshold": 0.2,
        "faces": [{"face_id": 1, **emotions, "bbox": box}] if emotions else [],
        "task_id": name,
        "processed_at": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "elapsed_ms": 30.0 + number % 7,
    }


def test_the_report_shows_its_pictures_and_filters_without_a_complaint(
    window: Window, tmp_path: Path
) -> None:
    evil = "<img src=x onerror=document.title='hacked'>.png"
    records = [
        record(1, "cat.jpg", fear=0.4),
        record(2, "dog.jpg", anger=0.9),
        record(3, evil, anger=0.6, fear=0.3),
        record(4, "wall.jpg"),
    ]
    kept = KeptImages(tmp_path / "kept", 10_000_000)
    kept.keep("cat.jpg", SAMPLES["astronaut.jpg"])
    totals = count_records(records)
    small = thumbnails(totals.latest, tmp_path / "kept")
    file = tmp_path / "report.html"
    file.write_bytes(render(totals, "results.json", "made now", small))
    page = window.page
    page.goto(file.as_uri())
    widths = page.eval_on_selector_all("img", "all => all.map(one => one.naturalWidth)")
    assert len(widths) == 1
    assert widths[0] > 100
    wide = "document.documentElement.scrollWidth <= innerWidth"
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 1000})
        assert page.evaluate(wide)
        sizes = page.eval_on_selector_all("svg", "all => all.map(one => one.clientWidth)")
        assert len(sizes) == 4
        assert all(250 < size < width for size in sizes)
    assert page.is_hidden("#nothing")
    rows = page.locator("#latest tbody tr")
    assert page.text_content("#shown") == "4 of 4"
    page.fill("#filter", "ANGER")
    assert page.text_content("#shown") == "2 of 4"
    assert [rows.nth(n).is_visible() for n in range(4)] == [False, True, True, False]
    page.fill("#filter", "anger fear")
    assert page.text_content("#shown") == "1 of 4"
    page.fill("#filter", "nothing like it")
    assert page.text_content("#shown") == "0 of 4"
    assert page.is_visible("#nothing")
    page.fill("#filter", "")
    assert rows.nth(3).is_visible()
    assert evil in (rows.nth(1).text_content() or "")
    assert page.title() == "results.json: report"
    assert window.complaints == []
    assert [address for address in window.asked if not address.startswith("data:")] == [
        file.as_uri()
    ]


def make_photographs(folder: Path, count: int) -> None:
    """Faces of skimage's subset of Labeled Faces in the Wild, made larger."""
    folder.mkdir()
    for number, face in enumerate(skimage.data.lfw_subset()[:count]):
        large = cv2.resize((face * 255).astype(np.uint8), (160, 160), interpolation=cv2.INTER_CUBIC)
        (folder / f"{number:02}.png").write_bytes(encode(".png", np.pad(large, 80, mode="reflect")))


def test_from_photographs_to_a_network_of_ones_own(window: Window, tmp_path: Path) -> None:
    make_photographs(tmp_path / "photos", 40)
    assert run_worker(tmp_path, "crop", "photos").returncode == 0
    faces = sorted(path.name for path in (tmp_path / "faces").glob("*.png"))
    assert len(faces) > 20

    process = start(tmp_path, "label", "faces", "--port", "0")
    assert process.stdout is not None
    url = process.stdout.readline().split()[3].rstrip(";")
    page = window.page
    try:
        page.goto(url)
        page.fill("#name", "Ann")
        page.press("#name", "Enter")
        said = {}
        for number, name in enumerate(faces):
            until(page, f"document.getElementById('face').src.endsWith('{name}')")
            until(page, "!busy")
            if number == 3:  # undo, and say something else
                page.keyboard.press("z")
                until(page, f"document.getElementById('face').src.endsWith('{faces[2]}') && !busy")
                page.keyboard.press("n")
                said[faces[2]] = "not a face"
                until(page, f"document.getElementById('face').src.endsWith('{name}') && !busy")
            page.keyboard.press("8")
            said[name] = "contempt"
            if number == 10:  # stop and come back: it goes on where it was
                until(page, "!busy")
                page.goto(url)
                page.fill("#name", "Ann")
                page.press("#name", "Enter")
        page.wait_for_selector("#finished", state="visible")
        assert page.text_content("#count") == f"{len(faces)} of {len(faces)}"
        page.goto(f"{url}/?labeller=Bob")  # a second one, who agrees but for one face
        bob = dict(zip(faces[:4], ("contempt", "contempt", "not a face", "anger"), strict=True))
        for name, label in bob.items():
            until(page, f"document.getElementById('face').src.endsWith('{name}') && !busy")
            page.click(f"[data-label='{label}']")
        until(page, "!busy && document.getElementById('count').textContent.startsWith('4')")
        page.click("#ask")
        page.wait_for_selector("#agreement tr:nth-child(4)")
        rows = page.locator("#agreement tr").all_inner_texts()
        shown = [["", "faces", "kappa"], ["Ann", str(len(faces)), ""], ["Bob", "4", ""]]
        # 3 of 4 agree; by chance 3/4 * 2/4 + 1/4 * 1/4 would: (12 - 7) / (16 - 7)
        assert [row.split("\t") for row in rows] == [*shown, ["Ann, Bob (Cohen)", "4", "0.56"]]
        assert window.complaints == []
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0
    with open_ballot(tmp_path / "faces") as ballot:
        assert ballot.votes() == {"Ann": said, "Bob": bob}
    with (tmp_path / "faces" / "label.csv").open(newline="") as file:
        assert [row[0] for row in csv.reader(file)] == faces

    flags = ("--epochs", "6", "--batch-size", "8", "--learning-rate", "0.01", "--threads", "1")
    own = f"weights/{WEIGHTS.stem}_own.onnx"
    words = ("--init", str(WEIGHTS), "--data", "faces", "--output", own)
    done = run_worker(tmp_path, "train", *words, *flags)
    assert done.returncode == 0, done.stderr
    written = ("--json", "both.json", "--plots", "plots")
    done = run_worker(
        tmp_path, "compare", "--data", "faces", "--weights", str(WEIGHTS), own, *written
    )
    assert done.returncode == 0, done.stderr
    before, after = (
        each["per_class"]["contempt"] for each in json.loads((tmp_path / "both.json").read_text())
    )
    assert before["samples"] == after["samples"] > 0  # held out: training has not seen them
    assert before["accuracy"] == 0
    assert after["accuracy"] > 0.5
    table = done.stdout.splitlines()
    assert "| recall | faces | emotion_net_small | emotion_net_small_own |" in table
    recall = f"{100 * after['accuracy']:.1f} %"
    assert f"| contempt | {after['samples']} | 0.0 % | {recall} |" in table
    assert (tmp_path / "plots" / "comparison.png").exists()


def test_a_label_page_opened_twice_loses_no_vote(window: Window, tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    faces.mkdir()
    for number in range(3):
        pixels = np.full((48, 48), 50 * number, np.uint8)
        (faces / f"{number}.png").write_bytes(encode(".png", pixels))
    process = start(tmp_path, "label", "faces", "--port", "0")
    assert process.stdout is not None
    url = process.stdout.readline().split()[3].rstrip(";")
    first, second = window.page, window.page.context.new_page()
    try:
        for page in (first, second):
            page.goto(f"{url}/?labeller=Ann")
            until(page, "face === '0.png' && !busy")
        first.keyboard.press("5")
        until(first, "face === '1.png' && !busy")
        second.keyboard.press("7")  # the same face again: the later vote counts
        until(second, "face === '1.png' && !busy")
        refused = run_worker(tmp_path, "label", "faces", "--port", "0")
        assert refused.returncode == 2
        assert "another `label` has it" in refused.stderr
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    with open_ballot(faces) as ballot:
        assert ballot.votes() == {"Ann": {"0.png": "fear"}}
    second.keyboard.press("2")
    until(second, "document.getElementById('message').textContent")
    assert "is it still running?" in (second.text_content("#message") or "")


def test_the_live_page_shows_its_picture(
    window: Window, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = np.full((120, 160, 3), 90, np.uint8)
    with show_on_page("127.0.0.1", 0) as show:
        window.page.goto(capsys.readouterr().out.split()[2].rstrip(";"), wait_until="commit")
        for _ in range(100):
            show(shown)
            if window.page.evaluate("document.images[0]?.naturalWidth") == 160:
                break
            window.page.wait_for_timeout(100)
        assert window.page.evaluate("document.images[0].naturalWidth") == 160
    assert window.complaints == []


def test_a_page_from_elsewhere_takes_no_lease_and_reads_nothing(window: Window) -> None:
    # Given
    queue = MemoryQueue()
    queue.add(SAMPLES["astronaut.jpg"], "a.jpg", "image/jpeg")

    def foreign(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html")])
        return [
            f"<img src='{server.url}/image'><script src='{server.url}/results'></script>".encode()
        ]

    with WebServer(create_app(queue)) as server, WebServer(foreign) as elsewhere:
        # When it is opened under another site's name, and asks in every way it has
        window.page.goto(elsewhere.url.replace("127.0.0.1", "localhost"))
        outcomes = window.page.evaluate(
            """async (url) => {
              const ask = (path, options) => fetch(url + path, options).then(
                async (answer) => `${answer.status} ${await answer.text()}`, () => "refused");
              return [
                await ask("/results"), await ask("/image"),
                await ask("/image", {mode: "no-cors"}),
                await ask("/threshold", {method: "PUT", body: '{"threshold": 1}'}),
              ];
            }""",
            server.url,
        )
        # Then
        assert window.page.evaluate("document.images[0].naturalWidth") == 0
    assert outcomes in (["refused"] * 4, [*["refused"] * 2, "0 ", "refused"])
    assert queue.counts() == {"waiting": 1, "leased": 0, "done": 0}
    assert queue.threshold != 1
