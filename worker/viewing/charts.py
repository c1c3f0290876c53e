"""Charts as data: lengths in percent, which the page draws with its own colours and letters."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = Sequence[float] | NDArray[np.int64]


@dataclass(frozen=True)
class Bars:
    """Values beside one another as bars that lie: label, value, percent of the longest, and the
    colour's name. ``words``: below the chart; ``alt``: its numbers, for those who do not see it."""

    heading: str
    words: str
    alt: str
    rows: tuple[tuple[str, int, float, str], ...]


@dataclass(frozen=True)
class Mark:
    """A line across the columns ``at`` percent, with words above; ``strength``: 0..1."""

    at: float
    words: str = ""
    strength: float = 1.0


@dataclass(frozen=True)
class Columns:
    """Columns over an axis. ``series``: a colour's name and an SVG path in a square of 100 by 100;
    ``line``: such a path; ``ticks``: what stands at how many percent of the height; ``ends``: what
    stands below the left, the middle and the right; ``legend``: colours' names and words."""

    heading: str
    words: str
    alt: str
    axis: str
    series: tuple[tuple[str, str], ...]
    ticks: tuple[tuple[str, float], ...]
    ends: tuple[str, str, str]
    line: str = ""
    legend: tuple[tuple[str, str], ...] = ()
    marks: tuple[Mark, ...] = ()


def bars(heading: str, values: Iterable[tuple[str, int, str]], words: str = "") -> Bars:
    """Bars of label, value and colour's name, in this order."""
    values = list(values)
    longest = max((value for _, value, _ in values), default=0) or 1
    rows = tuple((label, value, 100 * value / longest, color) for label, value, color in values)
    alt = ", ".join(f"{label} {value:,}" for label, value, _ in values)
    return Bars(heading, words, alt, rows)


def whole_ticks(most: float) -> list[int]:
    """From 0 to ``most`` or above, at most 5 whole numbers in equal, round steps."""
    steps = (base * 10**power for power in range(16) for base in (1, 2, 5))
    step = next(step for step in steps if most <= 4 * step)
    return list(range(0, max(step, -int(-most // step) * step) + 1, step))


def ticks(most: float) -> tuple[int, tuple[tuple[str, float], ...]]:
    """The height of the highest tick, and each with its percent of it."""
    values = whole_ticks(most)
    return values[-1], tuple((f"{value:,}", 100 * value / values[-1]) for value in values)


def stack(series: Iterable[tuple[str, Numbers]], top: float) -> tuple[tuple[str, str], ...]:
    """Columns on top of one another, as paths; those without any height are left out.

    ``series``: a colour's name and one height for each place, ``top`` being 100 percent.
    """
    below: NDArray[np.float64] | float = 0.0
    paths = []
    for color, heights in series:
        size = 100 / max(len(heights), 1)
        above = below + np.asarray(heights, np.float64)
        levels = 100 - 100 * np.array([np.broadcast_to(below, above.shape), above]) / top
        wide = 0.9 * size
        path = "".join(
            f"M{(number + 0.05) * size:.2f} {low:.2f}h{wide:.2f}V{high:.2f}h{-wide:.2f}z"
            for number, (low, high) in enumerate(levels.T)
            if low > high
        )
        if path:
            paths.append((color, path))
        below = above
    return tuple(paths)


def outline(heights: Numbers, top: float) -> str:
    """The upper end of columns as one line."""
    size = 100 / max(len(heights), 1)
    levels = [100 - 100 * float(height) / top for height in heights]
    return "M0 100" + "".join(f"V{level:.2f}h{size:.2f}" for level in levels)
