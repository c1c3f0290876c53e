"""Makes docs/report.png: a screenshot of a report on made-up records.

Needs Chromium and the package playwright.

    python benchmarks/report_picture.py docs/report.png
"""

import argparse
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from playwright.sync_api import ViewportSize, sync_playwright

from worker.record import EMOTIONS, Analysis, Box, Face, Record, build_record
from worker.viewing.report import render
from worker.viewing.totals import count_records

END = datetime(2026, 11, 24, 18, tzinfo=UTC)
SHARES = np.array([0.38, 0.26, 0.12, 0.11, 0.08, 0.01, 0.03, 0.01])  # about FER+'s


def record(name: str, outcome: Analysis, minutes: float) -> Record:
    """A record as the worker writes it, so many minutes before END."""
    time = (END - timedelta(minutes=minutes)).isoformat(timespec="milliseconds")
    return build_record(
        file_name=name,
        threshold=0.3,
        outcome=outcome,
        task_id=name,
        worker="camera-2" if minutes % 3 < 1 else "camera-1",
        network="emotion_net",
        now=lambda: time.replace("+00:00", "Z"),
    )


def made_up(count: int) -> list[Record]:
    chance, records, minutes = np.random.default_rng(0), [], 10.0
    for number in range(count):
        faces = []
        for _ in range(chance.choice(5, p=(0.25, 0.4, 0.2, 0.1, 0.05))):
            raw = chance.dirichlet(0.15 + 2 * SHARES)
            faces.append(Face(Box(10, 10, 90, 90), dict(zip(EMOTIONS, raw.tolist(), strict=True))))
        minutes += chance.exponential(0.4 * (1.5 + np.sin(number / 150)))
        outcome = Analysis(640, 480, tuple(faces), chance.gamma(9, 4))
        records.append(record(f"{count - number:05}.jpg", outcome, minutes))
    return records[::-1]


def main() -> None:
    parser = argparse.ArgumentParser(description="make the pages' picture of a report")
    parser.add_argument("output", type=Path)
    parser.add_argument("--width", type=int, default=1280, help="pixels; 390 as on a phone")
    parser.add_argument("--dark", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as tool:
        page = Path(folder, "report.html")
        made = f"made {END.isoformat()}"
        page.write_bytes(render(count_records(made_up(1500)), "results.json", made))
        browser = tool.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        size: ViewportSize = {"width": options.width, "height": 1000}
        shown = browser.new_page(viewport=size, color_scheme="dark" if options.dark else "light")
        shown.goto(page.as_uri())
        shown.screenshot(path=options.output)
        browser.close()


if __name__ == "__main__":
    main()
