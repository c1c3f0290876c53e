"""From many windows to one group a face: alike windows become one, and those of a face a group."""

from collections.abc import Iterator
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

ALIKE = 0.4  # intersection over union from which windows show the same thing
SAME_FACE = 0.3  # the same, from which they show one face
INSIDE = 0.7  # share of the smaller of two faces in the other one from which they are one

Windows = NDArray[np.float64]  # (n, 4): x1, y1, x2, y2


def merge_windows(windows: Windows, least: int) -> Windows:
    """The mean of each set of ``least`` or more alike windows, ``(m, 4)``. A face is seen by many
    windows, so to look at one of each set costs a fraction."""
    sets = _sets(windows, np.arange(len(windows)), ALIKE)
    means = [windows[members].mean(axis=0) for members in sets if len(members) >= least]
    return np.array(means).reshape(-1, 4)


def group_windows(
    windows: Windows, scores: NDArray[np.float64], least: float
) -> tuple[Windows, NDArray[np.float64]]:
    """One box for each set of windows that may show one face, ``(m, 4)``, and the score of the best
    of them, ``(m,)``; the best first.

    ``windows``: ``(n, 4)``; ``scores``: ``(n,)``, the probability 0..1 of each that it shows a
    face. No set begins with one below ``least``. The box is the mean, with the scores as weights.
    """
    sets = _sets(windows, np.argsort(-scores, kind="stable"), SAME_FACE)
    groups = list(takewhile(lambda own: scores[own[0]] >= least, sets))
    boxes = [np.average(windows[own], axis=0, weights=scores[own]) for own in groups]
    return np.array(boxes).reshape(-1, 4), np.array([scores[own[0]] for own in groups], float)


def _sets(windows: Windows, order: NDArray[np.int64], shared: float) -> Iterator[NDArray[np.int64]]:
    """Which windows belong together: the first that is left takes those that overlap it so far."""
    while len(order):
        same = overlaps(windows[order[0]], windows[order]) >= shared
        yield order[same]
        order = order[~same]


def outer_boxes(boxes: Windows, confidences: NDArray[np.floating]) -> list[int]:
    """Which boxes ``(n, 4)`` stay, the surest first: of two, one within the other, the surer one.

    A part of a face looks like a face to a cascade.
    """
    kept: list[int] = []
    for number in np.argsort(-confidences, kind="stable"):
        shared, own_area, areas = _areas(boxes[number], boxes[kept])
        if (shared <= INSIDE * np.minimum(own_area, areas)).all():
            kept.append(int(number))
    return kept


def overlaps(box: NDArray[np.float64], others: Windows) -> NDArray[np.float64]:
    """Intersection over union ``(n,)`` of one box ``(4,)`` with each of others ``(n, 4)``."""
    shared, own_area, areas = _areas(box, others)
    return np.asarray(shared / (own_area + areas - shared))


def _areas(
    box: NDArray[np.float64], others: Windows
) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """What a box shares with each of others, its own area, and theirs."""
    x1, y1, x2, y2 = others.T
    across = np.minimum(box[2], x2) - np.maximum(box[0], x1)
    down = np.minimum(box[3], y2) - np.maximum(box[1], y1)
    own_area = (box[2] - box[0]) * (box[3] - box[1])
    return np.maximum(across, 0) * np.maximum(down, 0), own_area, (x2 - x1) * (y2 - y1)


def log_odds(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Natural logarithm of p / (1 - p), of any shape, within -13.8 and 13.8."""
    sure = probabilities.astype(np.float64).clip(1e-6, 1 - 1e-6)
    return np.asarray(np.log(sure / (1 - sure)))
