"""From many windows to one group a face: alike windows become one, and those of a face a group."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALIKE = 0.5  # intersection over union from which windows show the same thing
SAME_FACE = 0.3  # the same, from which they show one face
INSIDE = 0.5  # share of the smaller of two faces in the other one from which they are one
SURE = 4.0  # log-odds beyond which a window counts no more for its face's box

Windows = NDArray[np.float64]  # (n, 4): x1, y1, x2, y2


@dataclass(frozen=True)
class Group:
    """What may be one face. ``box`` (x1, y1, x2, y2) is the mean of its windows; ``best`` is the
    one with the best ``score``, the probability that it shows a face."""

    box: NDArray[np.float64]
    best: NDArray[np.float64]
    score: float


def merge_windows(windows: Windows, least: int) -> tuple[Windows, NDArray[np.int64]]:
    """The mean of each set of ``least`` or more alike windows, ``(m, 4)``, and how many each stands
    for, ``(m,)``.

    The first window that is left takes those that overlap it. A face is seen by many windows, so
    to look at one of each set costs a fraction, and what one window alone sees is rarely a face.
    """
    left = np.arange(len(windows))
    sets = []
    while len(left):
        alike = overlaps(windows[left[0]], windows[left]) >= ALIKE
        sets.append(left[alike])
        left = left[~alike]
    sets = [members for members in sets if len(members) >= least]
    means = np.array([windows[members].mean(axis=0) for members in sets]).reshape(-1, 4)
    return means, np.array([len(members) for members in sets], np.int64)


def group_windows(
    windows: Windows, sizes: NDArray[np.int64], scores: NDArray[np.floating], least: float
) -> list[Group]:
    """One group for each set of windows that may show one face, the best first.

    ``windows``: ``(n, 4)``, each of which stands for ``sizes`` ``(n,)``; ``scores``: ``(n,)``,
    0..1. The best window that is left takes those that overlap it into its group; no group begins
    with a window whose score is below ``least``. Log-odds as weights, up to SURE, bring the box
    closer to the face than the scores do.
    """
    left = np.argsort(-scores, kind="stable")
    groups = []
    while len(left) and scores[left[0]] >= least:
        best = left[0]
        same = overlaps(windows[best], windows[left]) >= SAME_FACE
        members, left = left[same], left[~same]
        weights = log_odds(scores[members]).clip(0, SURE) * sizes[members] + 1e-9
        box = np.average(windows[members], axis=0, weights=weights)
        groups.append(Group(box, windows[best], float(scores[best])))
    return groups


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
