"""From windows that overlap to one group a face: what the opinions of several windows add up to."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAME_FACE = 0.3  # intersection over union of windows from which they show one face
INSIDE = 0.5  # share of the smaller of two faces in the other one from which they are one
MISSING = -4.0  # log-odds that stand for each window that is not there, of those that are evidence

Windows = NDArray[np.float64]  # (n, 4): x1, y1, x2, y2


@dataclass(frozen=True)
class Group:
    """The ``size`` windows of one face: their mean ``box`` (x1, y1, x2, y2), weighted by their
    scores, and the ``confidence``, 0..1, that it is a face."""

    box: NDArray[np.float64]
    confidence: float
    size: int


def group_windows(
    windows: Windows,
    scores: NDArray[np.floating],
    evidence: int = 3,
    prior: float = 0.0,
    least: float = 0.0,
) -> list[Group]:
    """One group for each face, the surest first.

    ``windows``: ``(n, 4)``; ``scores``: ``(n,)``, 0..1. The best window that is left takes those
    that overlap it into its group. The confidence comes from the ``prior`` and the mean log-odds
    of the best ``evidence`` windows of a group; MISSING stands for each that it lacks. Of two
    groups, one within the other, the surer one stays: a part of a face looks like a face to a
    cascade.

    Groups that cannot have the confidence ``least``, since no window of them has, are left out.
    """
    left = np.argsort(-scores, kind="stable")
    groups = []
    while len(left) and scores[left[0]] >= least:
        same = overlaps(windows[left[0]], windows[left]) >= SAME_FACE
        members, left = left[same], left[~same]
        box = np.average(windows[members], axis=0, weights=scores[members] + 1e-9)
        confidence = _confidence(scores[members[:evidence]], evidence, prior)
        groups.append(Group(box, confidence, len(members)))
    groups.sort(key=lambda group: -group.confidence)
    boxes = np.array([group.box for group in groups]).reshape(-1, 4)
    kept: list[int] = []
    for number, box in enumerate(boxes):
        if (_within(box, boxes[kept]) <= INSIDE).all():
            kept.append(number)
    return [groups[number] for number in kept]


def _confidence(best: NDArray[np.floating], evidence: int, prior: float) -> float:
    odds = np.full(evidence, MISSING)
    sure = best.clip(1e-6, 1 - 1e-6)
    odds[: len(best)] = np.log(sure / (1 - sure))
    return float(1 / (1 + np.exp(-prior - odds.mean())))


def _within(box: NDArray[np.float64], others: Windows) -> NDArray[np.float64]:
    """How much of the smaller of a box ``(4,)`` and each of others ``(n, 4)`` is shared, 0..1."""
    shared, own_area, areas = _areas(box, others)
    return np.asarray(shared / np.minimum(own_area, areas))


def overlaps(box: NDArray[np.float64], others: Windows) -> NDArray[np.float64]:
    """Intersection over union ``(n,)`` of one box ``(4,)`` with each of others ``(n, 4)``."""
    shared, own_area, areas = _areas(box, others)
    return np.asarray(shared / (own_area + areas - shared))


def _areas(
    box: NDArray[np.float64], others: Windows
) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """What a box shares with each of others, its own area, and theirs."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    return sides.clip(min=0).prod(axis=1), (box[2:] - box[:2]).prod(), areas
