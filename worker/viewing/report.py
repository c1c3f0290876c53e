"""`report`: what stands in the JSON file as one HTML page that needs nothing but itself."""

import base64
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from importlib import resources

import numpy as np
from jinja2 import Environment
from markupsafe import Markup

from worker.record import Record
from worker.terminal import safe
from worker.viewing.charts import Bars, Columns, Mark, bars, outline, stack, ticks
from worker.viewing.results import emotions_text
from worker.viewing.totals import MOST_FACES, TOPS, Totals, time_bars

MOST_KINDS = 20  # of errors, workers and networks that are listed
UNITS = (1440, "day"), (60, "hour"), (1, "minute")
TIME_BINS = 40


def render(
    totals: Totals, title: str, made: str, thumbnails: Mapping[str, str] | None = None
) -> bytes:
    """The whole page, UTF-8. ``title``: the file's name; ``made``: the time; ``thumbnails``: small
    pictures of the latest results, `data:` addresses by task id."""
    small = thumbnails or {}
    folder = resources.files("worker.viewing") / "templates"
    script = (folder / "report.js").read_text()
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string((folder / "report.html").read_text())
    text = page.render(
        title=safe(title),
        made=safe(made),
        totals=totals,
        figures=_figures(totals),
        charts=list(_charts(totals)),
        workers=_workers(totals),
        rows=[
            (*_row(record), small.get(record.get("task_id", ""), ""))
            for record in reversed(totals.latest)
        ],
        has_thumbnails=bool(small),
        script=Markup(script),  # noqa: S704 - our own file
        # Nothing that a server put into a name can run, even if it came through unescaped.
        script_hash=base64.b64encode(sha256(script.encode()).digest()).decode(),
    )
    return text.encode()


def _figures(totals: Totals) -> list[tuple[str, str]]:
    """What stands in the head, in words."""
    in_force = sorted(totals.thresholds)
    ends = dict.fromkeys(in_force[:1] + in_force[-1:])
    period = "-"
    if totals.times:
        days = (_at(min(totals.times), "%Y-%m-%d %H:%M"), _at(max(totals.times), "%Y-%m-%d %H:%M"))
        period = f"{' to '.join(dict.fromkeys(days))} UTC"
    median, most = _median_and_95(totals.elapsed())
    figures = [
        ("images", f"{totals.images:,}"),
        ("faces", f"{totals.faces:,}"),
        ("errors", f"{totals.errors.total():,}"),
        ("period", period),
        ("worker", _names(list(totals.workers))),
        ("network", _names([name for name, _ in totals.networks.most_common()])),
        ("analysis, median", median),
        ("analysis, 95 % within", most),
        ("thresholds", " to ".join(f"{threshold:g}" for threshold in ends) or "-"),
    ]
    if totals.not_numbers:
        figures.append(("values that are no numbers (NaN)", f"{totals.not_numbers:,}"))
    return figures


def _workers(totals: Totals) -> list[tuple[str, ...]]:
    """Name, images, faces, errors, median and 95 % of each worker, the busiest first."""
    busiest = sorted(totals.workers.items(), key=lambda pair: -pair[1].images)[:MOST_KINDS]
    return [
        (
            name,
            *(f"{number:,}" for number in (each.images, each.faces, each.errors)),
            *_median_and_95(np.array(each.elapsed)),
        )
        for name, each in busiest
    ]


def _row(record: Record) -> tuple[str, str, str, list[str]]:
    """Time, file and threshold of a record, and a line for each face."""
    threshold = record.get("threshold")
    lines = [f"{face['face_id']}: {emotions_text(face)}" for face in record["faces"]]
    if "error" in record:
        lines.append(f"error: {record['error']['message']}")
    return (
        safe(record.get("processed_at", "-")),
        safe(record["file_name"]),
        "-" if threshold is None else f"{threshold:g}",
        [safe(line) for line in lines] or ["no face"],
    )


def _charts(totals: Totals) -> Iterator[Bars | Columns]:
    if totals.times:
        yield from _over_time(totals)
    if totals.emotions:
        named = [(name, totals.emotions[name], name) for name in TOPS if totals.emotions[name]]
        yield bars("Emotions in total", named, "The surest emotion of each face.")
    if totals.faces_an_image:
        counts = range(max(totals.faces_an_image) + 1)
        labels = [f"{number}{'+' * (number == MOST_FACES)}" for number in counts]
        values = [
            (label, totals.faces_an_image[int(label.strip("+"))], "images") for label in labels
        ]
        yield bars("Faces an image", values, "Images that could not be analysed are not counted.")
    if totals.thresholds:
        yield _probabilities(totals)
    if len(totals.elapsed()):
        yield _analysis_time(totals)
    if totals.errors:
        kinds = totals.errors.most_common(MOST_KINDS)
        yield bars("Errors by kind", [(kind[:40], count, "errors") for kind, count in kinds])


def _over_time(totals: Totals) -> Iterator[Columns]:
    edges, (images, *by_top) = time_bars(totals)
    faces = np.sum(by_top, axis=0)
    width = timedelta(minutes=int(edges[1] - edges[0]))
    short = "%Y-%m-%d" if width >= timedelta(days=1) else "%m-%d %H:%M"
    begin, middle, end = (_at(60 * edges[at], short) for at in (0, len(edges) // 2, -1))
    words = f"Each bar is {_duration(width)}."
    if timeless := totals.images - len(totals.times):
        words += f" {timeless:,} records carry no time, or an impossible one."
    top, marks = ticks(max(images.max(), faces.max()))
    busiest = _at(60 * edges[images.argmax()], short)
    yield Columns(
        "Images and faces over time",
        words,
        f"{images.sum():,} images and {faces.sum():,} faces from {begin} to {end}; at most "
        f"{images.max():,} images in {_duration(width)}, at {busiest}",
        "time (UTC)",
        stack([("images", images)], top),
        marks,
        (begin, middle, end),
        line=outline(faces, top),
        legend=(("images", "images"), ("faces", "faces")),
    )
    if not faces.any():
        return
    named = [(name, heights) for name, heights in zip(TOPS, by_top, strict=True) if heights.any()]
    top, marks = ticks(faces.max())
    yield Columns(
        "Emotions over time",
        f"The surest emotion of each face. {words}",
        ", ".join(f"{name} {heights.sum():,}" for name, heights in named),
        "time (UTC)",
        stack(named, top),
        marks,
        (begin, middle, end),
        legend=tuple((name, name) for name, _ in named),
    )


def _probabilities(totals: Totals) -> Columns:
    most = max(totals.thresholds.values())
    in_force = sorted(totals.thresholds.items())
    top, marks = ticks(max(totals.probabilities))
    return Columns(
        "Probabilities and thresholds",
        "Only what reaches the threshold in force is stored. Lines: the thresholds, the stronger "
        "the more images had it.",
        f"{sum(totals.probabilities):,} values; thresholds "
        + ", ".join(f"{threshold:g} of {count:,} images" for threshold, count in in_force),
        "probability",
        stack([("images", totals.probabilities)], top),
        marks,
        ("0", "0.5", "1"),
        marks=tuple(
            Mark(100 * (threshold + 0.005) / 1.01, "", max(0.25, count / most))
            for threshold, count in in_force
            if 0 <= threshold <= 1
        ),
    )


def _analysis_time(totals: Totals) -> Columns:
    elapsed = totals.elapsed()
    median, p95, p99 = np.percentile(elapsed, (50, 95, 99))
    end = float(p99) or 1.0
    heights, _ = np.histogram(elapsed, TIME_BINS, (0, end))
    top, marks = ticks(heights.max())
    words = [f"median {median:.1f} ms", f"95 % within {p95:.1f} ms"]
    return Columns(
        "Analysis time",
        "Up to the time that 99 of 100 keep.",
        f"{len(elapsed):,} images: {', '.join(words)}",
        "milliseconds",
        stack([("images", heights)], top),
        marks,
        ("0", f"{end / 2:.3g}", f"{end:.3g}"),
        marks=(Mark(100 * median / end, words[0]), Mark(100 * p95 / end, words[1])),
    )


def _median_and_95(elapsed: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[str, str]:
    if not len(elapsed):
        return "-", "-"
    median, most = np.percentile(elapsed, (50, 95))
    return f"{median:.1f} ms", f"{most:.1f} ms"


def _names(names: list[str]) -> str:
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")


def _at(seconds: float, form: str) -> str:
    return datetime.fromtimestamp(float(seconds), UTC).strftime(form)


def _duration(width: timedelta) -> str:
    """Such as "15 minutes"; ``width``: one of WIDTHS."""
    minutes = width // timedelta(minutes=1)
    size, name = next(unit for unit in UNITS if minutes % unit[0] == 0)
    return f"{minutes // size} {name}{'s' * (minutes > size)}"
