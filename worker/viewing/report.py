"""`report`: what stands in the JSON file as one HTML page that needs nothing but itself.

Records are read once and kept as sums, so that a million of them take little memory.
"""

import base64
import io
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from hashlib import sha256
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray

from worker.record import Record
from worker.terminal import safe
from worker.viewing.results import emotions, faces_text, parse_time

LATEST = 50
MOST_FACES = 20  # an image with more counts as one with this many
MOST_KINDS = 20  # of errors that are listed
# Minutes, hours, days, about months and years that one bar may stand for.
WIDTHS = (1, 5, 15, 60, 180, 720, 1440, 7 * 1440, 30 * 1440, 365 * 1440)
MOST_BARS = 120
YEARS = range(1970, 2200)  # what a clock that was set says
UNITS = (1440, "day"), (60, "hour"), (1, "minute")
BLUE, RED = "#2e6fb7", "#c0392b"
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


class Totals:
    """What the report says of all records: counts, distributions and the latest ones.

    ``times``: of the images, seconds since 1970 (UTC); ``face_times`` and ``tops``: of each face of
    these, and which of COLOURS it has. ``probabilities``: how many faces were stored with each
    value, in hundredths. ``thresholds``: how many images each was in force for. ``elapsed``:
    milliseconds of every analysis.
    """

    def __init__(self) -> None:
        self.images = self.faces = 0
        self.times, self.face_times, self.tops = array("d"), array("d"), array("b")
        self.emotions: Counter[str] = Counter()
        self.faces_an_image: Counter[int] = Counter()
        self.probabilities = [0] * 101
        self.thresholds: Counter[float] = Counter()
        self.errors: Counter[str] = Counter()
        self.elapsed = array("d")
        self.latest: deque[Record] = deque(maxlen=LATEST)

    def add(self, record: Record) -> None:
        """Count one record of ours."""
        faces = record["faces"]
        time = parse_time(record["processed_at"]) if "processed_at" in record else None
        seconds = time.timestamp() if time and time.year in YEARS else None
        for face in faces:
            named = emotions(face)
            for _, value in named:
                self.probabilities[min(max(round(100 * value), 0), 100)] += 1
            top = named[0][0] if named else NO_EMOTION
            self.emotions[top] += 1
            if seconds is not None:
                self.face_times.append(seconds)
                self.tops.append(_NUMBER[top])
        if seconds is not None:
            self.times.append(seconds)
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


_NUMBER = {name: number for number, name in enumerate(COLOURS)}


def count_records(records: Iterable[Record]) -> Totals:
    """Sum up records of ours (`worker.viewing.results.checked`)."""
    totals = Totals()
    for record in records:
        totals.add(record)
    return totals


def time_bars(totals: Totals) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The bars that show the whole time, MOST_BARS or a little more.

    Returns where each begins and the last one ends, minutes since 1970, ``(bars + 1,)``; and the
    images in each, then its faces by COLOURS: ``(1 + colours, bars)``.
    """
    first, last = (int(end // 60) for end in (min(totals.times), max(totals.times)))
    width = next((width for width in WIDTHS if last - first <= width * MOST_BARS), WIDTHS[-1])
    edges = np.arange(first // width, last // width + 2) * width
    faces, tops = np.array(totals.face_times), np.array(totals.tops)
    several = [np.array(totals.times), *(faces[tops == number] for number in _NUMBER.values())]
    return edges, np.array([np.histogram(times, edges * 60)[0] for times in several])


def render(
    totals: Totals, title: str, made: str, thumbnails: Mapping[str, str] | None = None
) -> bytes:
    """The whole page, UTF-8. ``title``: the file's name; ``made``: the time; ``thumbnails``: small
    pictures of the latest results, `data:` addresses by task id."""
    small = thumbnails or {}
    folder = resources.files("worker.viewing") / "templates"
    script = (folder / "report.js").read_text()
    page = Environment(autoescape=True).from_string((folder / "report.html").read_text())
    with rc_context({"svg.fonttype": "none", "font.family": "sans-serif"}):
        pictures = [
            (heading, words, _address(figure)) for heading, words, figure in _figures(totals)
        ]
    text = page.render(
        title=safe(title),
        made=made,
        totals=totals,
        figures=_sums(totals),
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


def _sums(totals: Totals) -> list[tuple[str, str]]:
    """The sums in words."""
    median, p95 = np.percentile(totals.elapsed, (50, 95)) if totals.elapsed else (None, None)
    in_force = sorted(totals.thresholds)
    ends = dict.fromkeys(in_force[:1] + in_force[-1:])
    return [
        ("images", f"{totals.images:,}"),
        ("faces", f"{totals.faces:,}"),
        ("errors", f"{totals.errors.total():,}"),
        ("analysis, median", "-" if median is None else f"{median:.1f} ms"),
        ("analysis, p95", "-" if p95 is None else f"{p95:.1f} ms"),
        ("thresholds", " to ".join(f"{threshold:g}" for threshold in ends) or "-"),
    ]


def _row(record: Record) -> tuple[str, ...]:
    threshold = record.get("threshold")
    return (
        safe(record.get("processed_at", "-")),
        safe(record["file_name"]),
        "-" if threshold is None else f"{threshold:g}",
        safe(faces_text(record)),
    )


def _address(figure: Figure) -> str:
    """The picture as a data: address, an SVG without a background."""
    with io.BytesIO() as file:
        figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
        picture = base64.b64encode(file.getvalue()).decode()
    return f"data:image/svg+xml;base64,{picture}"


def _figures(totals: Totals) -> Iterator[tuple[str, str, Figure]]:
    """Heading, what the picture says in words, and the picture."""
    named = [name for name in COLOURS if totals.emotions[name]]
    if totals.times:
        edges, (images, *faces) = time_bars(totals)
        starts, width = edges.astype("datetime64[m]"), timedelta(minutes=int(edges[1] - edges[0]))
        words = f"Each bar is {_duration(width)}."
        if timeless := totals.images - len(totals.times):
            words += f" {timeless:,} records carry no time, or an impossible one."
        figure, axes = _axes("time (UTC)", "number")
        axes.bar(starts[:-1], images, width, align="edge", color=BLUE, label="images")
        axes.stairs(np.sum(faces, axis=0), starts, color=RED, label="faces")
        _finish_time(axes)
        yield "Images and faces over time", words, figure
        if totals.face_times:
            figure, axes = _axes("time (UTC)", "faces")
            below = np.zeros_like(images)
            for name in named:
                bars = faces[_NUMBER[name]]
                color = COLOURS[name]
                axes.bar(starts[:-1], bars, width, below, align="edge", color=color, label=name)
                below += bars
            _finish_time(axes)
            yield "Emotions over time", f"The surest emotion of each face. {words}", figure
    if named:
        figure, axes = _axes("", "faces")
        values = [totals.emotions[name] for name in named]
        axes.bar(named, values, color=[COLOURS[name] for name in named])
        words = ", ".join(f"{k} {v:,}" for k, v in zip(named, values, strict=True))
        yield "Emotions in total", words, figure
    if totals.faces_an_image:
        counts = [totals.faces_an_image[n] for n in range(max(totals.faces_an_image) + 1)]
        figure, axes = _axes("faces on it", "images")
        axes.bar([f"{n}+" if n == MOST_FACES else str(n) for n in range(len(counts))], counts)
        yield "Faces an image", "Images that could not be analysed are not counted.", figure
    if totals.thresholds:
        words = (
            "Only what reaches the threshold in force is stored. Lines: the thresholds, the darker "
            "the more images had it."
        )
        figure, axes = _axes("probability", "stored emotions")
        axes.bar(np.arange(101) / 100, totals.probabilities, 0.01)
        most = max(totals.thresholds.values())
        for threshold, count in totals.thresholds.items():
            axes.axvline(threshold, color=RED, alpha=max(0.1, count / most))
        axes.set_xlim(-0.02, 1.02)
        yield "Probabilities and thresholds", words, figure
    if totals.elapsed:
        times = np.array(totals.elapsed)
        median, p95, p99 = np.percentile(times, (50, 95, 99))
        figure, axes = _axes("milliseconds, up to the 99th of 100", "images")
        axes.hist(times[times <= p99], bins=60)
        for value, style in ((median, "-"), (p95, "--")):
            axes.axvline(value, color=RED, linestyle=style)
        words = f"Median {median:.1f} ms, 95 of 100 take at most {p95:.1f} ms."
        yield "Analysis time", words, figure
    if totals.errors:
        kinds = totals.errors.most_common(MOST_KINDS)
        figure, axes = _axes("images", "")
        # A hostile kind is no mathematics for matplotlib to typeset.
        axes.barh([kind[:40].replace("$", r"\$") for kind, _ in kinds], [n for _, n in kinds])
        axes.invert_yaxis()
        yield "Errors by kind", ", ".join(f"{kind[:40]} {n:,}" for kind, n in kinds), figure


def _axes(across: str, up: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.add_subplot(xlabel=across, ylabel=up)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _finish_time(axes: Any) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))


def _duration(width: timedelta) -> str:
    """Such as "15 minutes"; ``width``: one of WIDTHS."""
    minutes = width // timedelta(minutes=1)
    size, name = next(unit for unit in UNITS if minutes % unit[0] == 0)
    return f"{minutes // size} {name}{'s' * (minutes > size)}"
