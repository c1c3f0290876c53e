"""Pictures of a training and of what a network can do; each function writes one PNG file."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

DPI = 120


def plot_learning(losses: Sequence[float], accuracies: Sequence[float], path: Path) -> None:
    """Mean training loss and validation accuracy (a fraction) of each epoch."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    epochs = range(1, len(losses) + 1)
    axes.plot(epochs, losses, ".-", color="tab:blue")
    axes.set_ylabel("training loss (blue)")
    right = axes.twinx()
    right.plot(epochs, [100 * accuracy for accuracy in accuracies], ".-", color="tab:orange")
    right.set(ylabel="validation accuracy, % (orange)", ylim=(None, 100))
    figure.savefig(path, dpi=DPI)


def plot_confusion(confusion: NDArray[np.integer], classes: Sequence[str], path: Path) -> None:
    """Confusion matrix ``[true][predicted]``: counts as text, share of the true class as colour."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="majority of the annotators")
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, label="of the faces in a row (%)")
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    for (row, column), count in np.ndenumerate(confusion):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour)
    figure.savefig(path, dpi=DPI)


def plot_reliability(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int, path: Path
) -> None:
    """How often the network was right against how sure it was, with the faces in each bin."""
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    edges = np.linspace(0, 100, bins + 1)
    chosen = np.clip(np.digitize(100 * confidence, edges) - 1, 0, bins - 1)
    counts = np.bincount(chosen, minlength=bins)
    accuracy = 100 * np.bincount(chosen, weights=correct, minlength=bins) / np.maximum(counts, 1)
    axes.bar(edges[:-1], accuracy, width=100 / bins, align="edge", edgecolor="white")
    axes.plot([0, 100], [0, 100], color="black", linestyle="--", label="perfectly calibrated")
    axes.set(ylabel="was right (%)", xlim=(0, 100), ylim=(0, 100))
    axes.legend(loc="upper left")
    below.bar(edges[:-1], counts, width=100 / bins, align="edge", edgecolor="white")
    below.set(xlabel="stated probability (%)", ylabel="faces")
    figure.savefig(path, dpi=DPI)


class Point(NamedTuple):
    """A network in the comparison: accuracy and its interval are fractions."""

    name: str
    milliseconds: float
    accuracy: float
    interval: tuple[float, float] | None = None


# Peers that know FER2013's original labels, on 3,153 FER+ test faces. Their times are of another
# machine, and of one run there.
PEERS = (
    Point("fer 25.10.3", 0.82, 0.670),
    Point("face-api", 11.5, 0.686),
    Point("human", 7.3, 0.664),
)


def plot_comparison(points: Sequence[Point], path: Path, peers: Sequence[Point] = ()) -> None:
    """Accuracy with its interval against the time for one face; peers as hollow points."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="one face, one thread (ms)", ylabel="accuracy (%)")
    axes.grid(visible=True, alpha=0.3)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    every = [*points, *peers]
    times = [each.milliseconds for each in every]
    lowest = min(each.accuracy for each in every)
    axes.set(xlim=(min(times) / 2, max(times) * 3), ylim=(10 * math.floor(10 * lowest - 0.3), 100))
    for each in points:
        axes.plot(each.milliseconds, 100 * each.accuracy, "o", color="tab:blue")
        if each.interval:
            low, high = (100 * bound for bound in each.interval)
            axes.vlines(each.milliseconds, low, high, color="tab:blue", alpha=0.5)
    for each in peers:
        axes.plot(each.milliseconds, 100 * each.accuracy, "o", color="gray", markerfacecolor="none")
    label_points(axes, [(each.name, each.milliseconds, 100 * each.accuracy) for each in every])
    figure.savefig(path, dpi=DPI)


# Where a label may stand, in points from its point: beside it, above, below, then farther away.
PLACES = [
    (across, up + step, "left" if across > 0 else "right" if across < 0 else "center")
    for step in (0, 12, -12, 24, -24, 36, -36, 48, -48)
    for across, up in ((8, -4), (-8, -4), (0, 7), (0, -15))
]


def label_points(axes: Axes, points: Sequence[tuple[str, float, float]]) -> list[Annotation]:
    """Write each name beside its point ``(name, x, y)``, where it covers no other label or point.

    A label that finds no such place stands in the first one.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # only then does it know where things are
    corners = axes.transData.transform([(x, y) for _, x, y in points])
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in corners]
    labels = []
    for name, x, y in points:
        free = None
        for across, up, side in PLACES:
            label = axes.annotate(
                name, (x, y), xytext=(across, up), textcoords="offset points", ha=side
            )
            box = label.get_window_extent()
            inside = axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max)
            if inside and not any(box.overlaps(other) for other in taken):
                free = label
                taken.append(box)
                break
            label.remove()
        labels.append(free or axes.annotate(name, (x, y)))
    return labels


def plot_detection(
    curve: Sequence[tuple[float, float, float]], confidence: float, path: Path
) -> None:
    """Recall (a fraction) against false faces a picture, one point ``(confidence, false, recall)``
    for each of several confidences that could be asked for; the one in force is marked."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="false faces a picture", ylabel="recall")
    axes.grid(visible=True, alpha=0.3)
    _, false, recall = zip(*curve, strict=True)
    axes.plot(false, recall, ".-")
    at, false_there, recall_there = min(curve, key=lambda point: abs(point[0] - confidence))
    axes.plot(false_there, recall_there, "o", color="tab:red", label=f"confidence {at:.2f}")
    axes.legend()
    figure.savefig(path, dpi=DPI)
