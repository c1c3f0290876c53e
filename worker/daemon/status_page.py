"""The page at `/` of `[metrics] address`: the daemon's state at a glance, without a picture of
anyone. It needs no script and refreshes itself."""

import time
from collections.abc import Iterable
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from worker.record import Record, emotion_words

if TYPE_CHECKING:
    from worker.daemon.metrics import Metrics

POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # its Content-Security-Policy
PAGE = Template(Path(__file__).with_suffix(".html").read_text())


def status_page(metrics: "Metrics") -> bytes:
    """The page as UTF-8: last poll, back-off, what is in hand and owed, the latest records."""
    _, health = metrics.health()
    answered = health["last_answer_age_s"]
    state = (
        ("state", health["status"]),
        ("last poll", f"{health['last_poll']}, {health['last_poll_age_s']:.0f} s ago"),
        ("last good answer", "none yet" if answered is None else f"{answered:.0f} s ago"),
        ("back-off", f"{health['backoff_s']:.1f} s"),
        ("images in hand", f"{metrics.value('images_in_hand'):.0f}"),
        ("results to post", f"{metrics.value('posts_pending'):.0f}"),
        ("network", metrics.network),
    )
    records = [_cells(record) for record in reversed(metrics.latest)] or [("none yet",)]
    at = time.strftime("%H:%M:%S", time.gmtime())
    page = PAGE.substitute(state=_rows(state), records=_rows(records), at=at)
    return page.encode(errors="replace")


def _cells(record: Record) -> tuple[str, ...]:
    """When, which file, and what its faces show."""
    said = "; ".join(map(_face, record["faces"])) or "no face"
    if "error" in record:
        said = f"error: {record['error']['message']}"
    return record["processed_at"], record["file_name"], said


def _face(face: Record) -> str:
    return ", ".join(emotion_words(face)) or "below threshold"


def _rows(rows: Iterable[Iterable[str]]) -> str:
    cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return "".join(f"<tr>{row}</tr>" for row in cells)
