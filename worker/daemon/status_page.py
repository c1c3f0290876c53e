"""The page at `/` of `[metrics] address`: the daemon's state at a glance, without a picture of
anyone. It needs no script and refreshes itself."""

import time
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

from worker.record import EMOTIONS, Record

if TYPE_CHECKING:
    from worker.daemon.metrics import Metrics

POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # its Content-Security-Policy
REFRESH = 5  # seconds
HEAD = f"""<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>emotion worker</title>
<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="{REFRESH}">
<style>:root {{ color-scheme: light dark }} body {{ font: 1rem sans-serif; margin: 1rem }}
th, td {{ text-align: left; padding: .2rem .8rem .2rem 0 }}</style>
<h1>emotion worker</h1>
"""


def status_page(metrics: "Metrics") -> bytes:
    """The page as UTF-8: last poll, back-off, what is in hand and owed, the latest records."""
    _, health = metrics.health()
    answered = health["last_answer_age_s"]
    state = (
        ("state", health["status"]),
        ("last poll", f"{health['last_poll']}, {health['last_poll_age_s']:.0f} s ago"),
        ("last good answer", "none yet" if answered is None else f"{answered:.0f} s ago"),
        ("back-off", f"{health['backoff_s']:.1f} s"),
        ("images in hand", f"{metrics.figure('images_in_hand'):.0f}"),
        ("results to post", f"{metrics.figure('posts_pending'):.0f}"),
        ("network", metrics.network),
    )
    records = [_cells(record) for record in reversed(metrics.latest)]
    shown = _table(("processed", "file", "faces"), records) if records else "<p>none yet</p>"
    at = time.strftime("%H:%M:%S", time.gmtime())
    page = f"{HEAD}{_table((), state)}<h2>Latest records</h2>{shown}<p>{at} UTC</p>"
    return page.encode("utf-8", "replace")


def _cells(record: Record) -> tuple[str, str, str]:
    """When, which file, and what its faces show."""
    if "error" in record:
        said = f"error: {record['error']['message']}"
    else:
        said = "; ".join(map(_face, record["faces"])) or "no face"
    return record["processed_at"], record["file_name"], said


def _face(face: Record) -> str:
    named = {name: face[name] for name in EMOTIONS if name in face}
    return ", ".join(f"{name} {value:.2f}" for name, value in named.items()) or "below threshold"


def _table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in heading)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>" if head else f"<table>{body}</table>"
