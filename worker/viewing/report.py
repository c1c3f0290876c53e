"""`report`: what stands in the JSON file as one HTML page that needs nothing but itself.

Here are its charts as data; templates/report.html draws them with colours and letters of its own.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from numpy.typing import NDArray

from worker.terminal import safe
from worker.viewing.table import rows
from worker.viewing.totals import MOST_FACES, TOPS, Floats, Totals, time_bars

TEMPLATES = Path(__file__).with_name("templates")
MOST_KINDS = 20  # of errors, thresholds and workers that are shown
UNITS = (1440, "day"), (60, "hour"), (1, "minute")
TIME_BINS = 40


@dataclass(frozen=True)
class Bars:
    """Values beside one another, as bars that lie: label, value, and the colour's name. ``words``:
    below the chart."""

    heading: str
    rows: Sequence[tuple[str, int, str]]
    words: str = ""


@dataclass(frozen=True)
class Columns:
    """Columns over an axis, one series on top of the other.

    ``series``: the height at each place, by name, which is also that of its colour. ``ends``: what
    stands below the left, the middle and the right. ``marks``: lines across, at how many percent
    of the width, with words above.
    """

    heading: str
    axis: str
    ends: Sequence[str]
    series: Mapping[str, Sequence[int] | NDArray[np.int64]]
    words: str
    marks: Sequence[tuple[float, str]] = ()

    def stack(self) -> list[tuple[str, NDArray[np.int64]]]:
        """Name and upper ends of each series, the highest first: each covers those before it."""
        upper = np.cumsum([*self.series.values()], axis=0)
        return [*zip(self.series, upper, strict=True)][::-1]

    def ticks(self) -> list[int]:
        """What stands beside the columns."""
        return whole_ticks(int(self.stack()[0][1].max()))


def whole_ticks(most: int) -> list[int]:
    """From 0 to ``most`` or above, at most 5 whole numbers in equal, round steps."""
    steps = (base * 10**power for power in range(16) for base in (1, 2, 5))
    step = next(step for step in steps if most <= 4 * step)
    return list(range(0, max(most, 1) + step, step))


def render(
    totals: Totals, title: str, made: str, thumbnails: Mapping[str, str] | None = None
) -> bytes:
    """The whole page, UTF-8. ``title``: the file's name; ``made``: the time; ``thumbnails``: small
    pictures of the latest results, `data:` addresses by task id."""
    script = (TEMPLATES / "report.js").read_text()
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_finalize
    )
    template = environment.from_string((TEMPLATES / "report.html").read_text())
    page = template.render(
        title=title,
        made=made,
        totals=totals,
        charts=list(_charts(totals)),
        workers=totals.images.most_common(MOST_KINDS),
        period=[_at(end(totals.times), "%Y-%m-%d %H:%M") for end in (min, max) if totals.times],
        quantiles=_quantiles,
        rows=rows,
        thumbnails=thumbnails or {},
        script=Markup(script),  # noqa: S704 - our own file
        # Nothing that a server put into a name can run, even if it came through unescaped.
        script_hash=base64.b64encode(sha256(script.encode()).digest()).decode(),
    )
    return page.encode()


def _finalize(value: object) -> object:
    """Each value on its way to the page: names from elsewhere steer nothing there."""
    return safe(value) if type(value) is str else value  # a Markup is ours


def _charts(totals: Totals) -> Iterator[Bars | Columns]:
    if totals.times:
        yield from _over_time(totals)
    if totals.emotions:
        named = [(name, totals.emotions[name], name) for name in TOPS if totals.emotions[name]]
        yield Bars("Emotions in total", named, "The surest emotion of each face.")
    if counts := totals.faces_an_image:
        values = [(str(number), counts[number], "images") for number in range(max(counts) + 1)]
        words = f"Images that could not be analysed are not counted; {MOST_FACES} is that or more."
        yield Bars("Faces an image", values, words)
    if totals.thresholds:
        yield _probabilities(totals)
    if totals.elapsed:
        yield _analysis_time(totals)
    if totals.kinds:
        kinds = [(kind[:40], n, "errors") for kind, n in totals.kinds.most_common(MOST_KINDS)]
        yield Bars("Errors by kind", kinds)


def _over_time(totals: Totals) -> Iterator[Columns]:
    edges, series = time_bars(totals)
    width = int(edges[1] - edges[0])  # minutes
    form = "%Y-%m-%d" if width >= 1440 else "%m-%d %H:%M"
    ends = [_at(60 * edges[at], form) for at in (0, len(edges) // 2, -1)]
    size, unit = next(unit for unit in UNITS if width % unit[0] == 0)
    words = f"Each bar is {width // size} {unit}{'s' * (width > size)}."
    if timeless := totals.images.total() - len(totals.times):
        words += f" {timeless:,} records carry no time, or an impossible one."
    yield Columns("Images over time", "time (UTC)", ends, {"images": series["images"]}, words)
    if faces := {name: series[name] for name in TOPS if series[name].any()}:
        words = f"By the surest emotion of each face. {words}"
        yield Columns("Faces and emotions over time", "time (UTC)", ends, faces, words)


def _probabilities(totals: Totals) -> Columns:
    in_force = totals.thresholds.most_common(MOST_KINDS)
    said = ", ".join(f"{threshold:g} ({count:,} images)" for threshold, count in in_force)
    return Columns(
        "Probabilities and thresholds",
        "probability",
        ("0", "0.5", "1"),
        {"values": totals.probabilities},
        f"Only what reaches the threshold in force is stored. Lines: the thresholds, {said}.",
        [(100 * (at + 0.005) / 1.01, "") for at, _ in in_force if 0 <= at <= 1],
    )


def _analysis_time(totals: Totals) -> Columns:
    elapsed = np.concatenate([*totals.elapsed.values()])
    median, p95, p99 = np.percentile(elapsed, (50, 95, 99))
    end = float(p99) or 1.0
    said = _quantiles(totals.elapsed.values())
    return Columns(
        "Analysis time",
        "milliseconds",
        ("0", f"{end / 2:.3g}", f"{end:.3g}"),
        {"images": np.histogram(np.minimum(elapsed, end), TIME_BINS, (0, end))[0]},
        "The last column is also for the one of 100 that took longer.",
        [(100 * median / end, f"median {said[0]}"), (100 * p95 / end, f"95 % within {said[1]}")],
    )


def _quantiles(elapsed: Iterable[Floats]) -> list[str]:
    """Median and 95 % of milliseconds, as text."""
    values = np.concatenate([np.zeros(0), *elapsed])
    if not len(values):
        return ["-", "-"]
    return [f"{value:.1f} ms" for value in np.percentile(values, (50, 95))]


def _at(seconds: float, form: str) -> str:
    return datetime.fromtimestamp(float(seconds), UTC).strftime(form)
