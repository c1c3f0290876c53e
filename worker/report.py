"""`report`: what stands in the JSON file as one HTML page that needs nothing but itself.

Records are read once and kept as sums, so that a million of them take little memory.
"""

import base64
import io
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure

from worker.emotions import EMOTIONS
from worker.record import Record
from worker.results import ODD, Filter, faces_text, not_ours, parse_time
from worker.terminal import safe

LATEST = 50
MOST_FACES = 20  # an image with more counts as one with this many
MOST_KINDS = 20  # of errors that are listed
# Minutes, hours, days, about months and years that one bar may stand for.
WIDTHS = (1, 5, 15, 60, 180, 720, 1440, 7 * 1440, 30 * 1440, 365 * 1440)
MOST_BARS = 120
MOST_KEPT = 20 * MOST_BARS  # while it is not yet known how long a time there is to show
NO_EMOTION = "none"  # a face for which no emotion reached the threshold
COLOURS = {
    "neutral": "#7f8c8d",
    "happiness": "#f1b400",
    "surprise": "#e67e22",
    "sadness": "#2e6fb7",
    "anger": "#c0392b",
    "disgust": "#5b8c2a",
    "fear": "#7d3c98",
    "contempt": "#a04060",
    NO_EMOTION: "#d0d0d0",
}


class Timeline:
    """Sums by time: ``bars`` by their start (minutes since 1970, UTC), each ``width`` minutes long.

    A bar holds images, faces, and faces by emotion (as in COLOURS).
    """

    def __init__(self) -> None:
        self.width = WIDTHS[0]
        self.bars: dict[int, list[int]] = {}

    def bar(self, minute: int) -> list[int]:
        """The bar of a minute, to count in at once: the next call may put it into a wider one."""
        if len(self.bars) > MOST_KEPT and self.width != WIDTHS[-1]:
            self._widen(next(width for width in WIDTHS if width > self.width))
        start = minute - minute % self.width
        if start not in self.bars:
            self.bars[start] = [0] * (2 + len(COLOURS))
        return self.bars[start]

    def fit(self) -> None:
        """Make the bars wide enough that MOST_BARS span the whole time."""
        for width in WIDTHS:
            if self.bars and (max(self.bars) - min(self.bars)) / self.width > MOST_BARS:
                self._widen(max(width, self.width))

    def _widen(self, width: int) -> None:
        bars, self.bars, self.width = self.bars, {}, width
        for minute, counts in bars.items():
            start = minute - minute % width
            wider = self.bars.get(start, [0] * len(counts))
            self.bars[start] = [a + b for a, b in zip(wider, counts, strict=True)]


class Totals:
    """What the report says of all records: counts, distributions and the latest ones.

    ``probabilities``: how many faces were stored with each value, in hundredths. ``thresholds``:
    how many images each was in force for. ``elapsed``: milliseconds of every analysis.
    """

    def __init__(self) -> None:
        self.images = self.faces = self.timeless = 0
        self.timeline = Timeline()
        self.emotions: Counter[str] = Counter()
        self.faces_an_image: Counter[int] = Counter()
        self.probabilities = [0] * 101
        self.thresholds: Counter[float] = Counter()
        self.errors: Counter[str] = Counter()
        self.elapsed = array("d")
        self.latest: deque[Record] = deque(maxlen=LATEST)

    def add(self, record: Record) -> None:
        """Count one record. Raises what a record of another form leads to."""
        faces = record["faces"]
        if "processed_at" in record:
            bar = self.timeline.bar(int(parse_time(record["processed_at"]).timestamp() // 60))
        else:
            bar, self.timeless = [0] * (2 + len(COLOURS)), self.timeless + 1
        bar[0] += 1
        bar[1] += len(faces)
        for face in faces:
            top, most = NO_EMOTION, -1.0
            for name, value in face.items():
                if name in EMOTIONS:
                    self.probabilities[min(max(round(100 * value), 0), 100)] += 1
                    if value > most:
                        top, most = name, value
            self.emotions[top] += 1
            bar[_COLUMN[top]] += 1
        self.images += 1
        self.faces += len(faces)
        if "error" in record:
            self.errors[safe(record["error"]["type"])] += 1
        else:
            self.faces_an_image[min(len(faces), MOST_FACES)] += 1
        if record.get("threshold") is not None:
            self.thresholds[round(record["threshold"], 2)] += 1
        if "elapsed_ms" in record:
            self.elapsed.append(record["elapsed_ms"])
        self.latest.append(record)


_COLUMN = {name: column for column, name in enumerate(COLOURS, 2)}  # of a bar


def count_records(records: Iterable[Record], since: datetime | None = None) -> Totals:
    """Sum up the records from ``since`` on (aware; None: all).

    Raises DatabaseUnusable for a record that is none of ours, with its number.
    """
    totals, chosen = Totals(), Filter(since=since)
    for number, record in enumerate(records, 1):
        try:
            if chosen.matches(record):
                totals.add(record)
        except ODD as odd:
            raise not_ours(number, odd) from odd
    totals.timeline.fit()
    return totals


def render(
    totals: Totals, title: str, made: str, thumbnails: Mapping[str, str] | None = None
) -> bytes:
    """The whole page, UTF-8. ``title``: the file's name; ``made``: the time; ``thumbnails``: small
    pictures of the latest results, `data:` addresses by task id."""
    small = thumbnails or {}
    folder = resources.files("worker") / "templates"
    script = (folder / "report.js").read_text()
    page = Environment(autoescape=True).from_string((folder / "report.html").read_text())
    with rc_context({"svg.fonttype": "none", "font.family": "sans-serif"}):
        pictures = _pictures(totals)
    text = page.render(
        title=safe(title),
        made=made,
        totals=totals,
        figures=_figures(totals),
        pictures=pictures,
        rows=[
            (_row(record), small.get(record.get("task_id", ""), ""))
            for record in reversed(totals.latest)
        ],
        has_thumbnails=bool(small),
        script=Markup(script),  # noqa: S704 - our own file
        # Nothing that a server put into a name can run, even if it came through unescaped.
        script_hash=base64.b64encode(sha256(script.encode()).digest()).decode(),
    )
    return text.encode()


def _figures(totals: Totals) -> list[tuple[str, str]]:
    """The sums in words."""
    median, p95 = np.percentile(totals.elapsed, (50, 95)) if totals.elapsed else (None, None)
    in_force = sorted(totals.thresholds)
    return [
        ("images", f"{totals.images:,}"),
        ("faces", f"{totals.faces:,}"),
        ("errors", f"{totals.errors.total():,}"),
        ("analysis, median", "-" if median is None else f"{median:.1f} ms"),
        ("analysis, p95", "-" if p95 is None else f"{p95:.1f} ms"),
        ("thresholds", "-" if not in_force else " to ".join(f"{t:g}" for t in _ends(in_force))),
    ]


def _ends(values: list[float]) -> list[float]:
    return values if len(values) < 2 else [values[0], values[-1]]


def _row(record: Record) -> tuple[str, ...]:
    threshold = record.get("threshold")
    return (
        safe(record.get("processed_at", "-")),
        safe(record["file_name"]),
        "-" if threshold is None else f"{threshold:g}",
        safe(faces_text(record)),
    )


def _pictures(totals: Totals) -> list[tuple[str, str, str]]:
    """Heading, what the picture says in words, and the picture as a data: address."""
    faces = totals.faces
    named = {name: totals.emotions[name] for name in COLOURS if totals.emotions[name]}
    drawn = []

    def draw(heading: str, words: str, figure: Figure) -> None:
        with io.BytesIO() as file:
            figure.savefig(file, format="svg", metadata={"Date": None})
            picture = base64.b64encode(file.getvalue()).decode()
        drawn.append((heading, words, f"data:image/svg+xml;base64,{picture}"))

    bars = totals.timeline.bars
    if bars:
        table = np.array([bars[start] for start in sorted(bars)])
        starts = [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=m) for m in sorted(bars)]
        width = timedelta(minutes=totals.timeline.width)
        words = f"Each bar is {_duration(width)}."
        if totals.timeless:
            words += f" {totals.timeless:,} records carry no time."
        figure, axes = _axes("time (UTC)", "number")
        axes.bar(starts, table[:, 0], width, align="edge", color="#2e6fb7", label="images")
        axes.step([*starts, starts[-1] + width], [*table[:, 1], table[-1, 1]], where="post",
                  color="#c0392b", label="faces")  # fmt: skip
        _finish_time(axes)
        draw("Images and faces over time", words, figure)
        if faces:
            figure, axes = _axes("time (UTC)", "faces")
            below = np.zeros(len(table), np.int64)
            for name in named:
                column = table[:, _COLUMN[name]]
                axes.bar(starts, column, width, below, align="edge", color=COLOURS[name],
                         label=name)  # fmt: skip
                below += column
            _finish_time(axes)
            draw("Emotions over time", f"The surest emotion of each face. {words}", figure)
    if faces:
        figure, axes = _axes("", "faces")
        axes.bar(list(named), list(named.values()), color=[COLOURS[name] for name in named])
        draw("Emotions in total", ", ".join(f"{k} {v:,}" for k, v in named.items()), figure)
    if totals.faces_an_image:
        counts = [totals.faces_an_image[n] for n in range(max(totals.faces_an_image) + 1)]
        figure, axes = _axes("faces on it", "images")
        axes.bar([f"{n}+" if n == MOST_FACES else str(n) for n in range(len(counts))], counts)
        draw("Faces an image", "Images that could not be analysed are not counted.", figure)
    if totals.thresholds:
        words = (
            "Only what reaches the threshold in force is stored. Lines: the thresholds, the darker "
            "the more images had it."
        )
        figure, axes = _axes("probability", "stored emotions")
        axes.bar(np.arange(101) / 100, totals.probabilities, 0.01)
        most = max(totals.thresholds.values())
        for threshold, count in totals.thresholds.items():
            axes.axvline(threshold, color="#c0392b", alpha=max(0.1, count / most))
        axes.set_xlim(-0.02, 1.02)
        draw("Probabilities and thresholds", words, figure)
    if totals.elapsed:
        times = np.array(totals.elapsed)
        median, p95 = np.percentile(times, (50, 95))
        figure, axes = _axes("milliseconds, up to the 99th of 100", "images")
        axes.hist(times[times <= np.percentile(times, 99)], bins=60)
        for value, style in ((median, "-"), (p95, "--")):
            axes.axvline(value, color="#c0392b", linestyle=style)
        words = f"Median {median:.1f} ms, 95 of 100 take at most {p95:.1f} ms."
        draw("Analysis time", words, figure)
    if totals.errors:
        kinds = totals.errors.most_common(MOST_KINDS)
        figure, axes = _axes("images", "")
        # A hostile kind is no mathematics for matplotlib to typeset.
        axes.barh([kind[:40].replace("$", r"\$") for kind, _ in kinds], [n for _, n in kinds])
        axes.invert_yaxis()
        draw("Errors by kind", ", ".join(f"{kind[:40]} {n:,}" for kind, n in kinds), figure)
    return drawn


def _axes(across: str, up: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.add_subplot(xlabel=across, ylabel=up)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _finish_time(axes: Any) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))


def _duration(width: timedelta) -> str:
    minutes = width // timedelta(minutes=1)
    for size, name in ((1440, "day"), (60, "hour"), (1, "minute")):
        if minutes % size == 0:
            number = minutes // size
            return f"{number} {name}{'s' * (number > 1)}"
    raise AssertionError(width)
