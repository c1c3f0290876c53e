"""Pictures of a training and of what a network can do; each function writes one PNG file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
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
    right.set_ylabel("validation accuracy, % (orange)")
    figure.savefig(path, dpi=DPI)


def plot_confusion(confusion: NDArray[np.integer], classes: Sequence[str], path: Path) -> None:
    """Confusion matrix ``[true][predicted]``: counts as text, share of the true class as colour."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="majority of the annotators")
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
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
    edges = np.linspace(0, 1, bins + 1)
    chosen = np.clip(np.digitize(confidence, edges) - 1, 0, bins - 1)
    counts = np.bincount(chosen, minlength=bins)
    accuracy = np.bincount(chosen, weights=correct, minlength=bins) / np.maximum(counts, 1)
    axes.plot([0, 1], [0, 1], color="gray", linestyle="--", label="perfectly calibrated")
    axes.bar(edges[:-1], accuracy, width=1 / bins, align="edge", edgecolor="white")
    axes.set(ylabel="fraction that was right", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    below.bar(edges[:-1], counts, width=1 / bins, align="edge", edgecolor="white")
    below.set(xlabel="probability of the top emotion", ylabel="faces")
    figure.savefig(path, dpi=DPI)


def plot_comparison(
    names: Sequence[str], accuracies: Sequence[float], milliseconds: Sequence[float], path: Path
) -> None:
    """Accuracy (a fraction) against the time for one face, a point for each network."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="one face, one thread (ms)", ylabel="accuracy (%)")
    axes.grid(visible=True, alpha=0.3)
    axes.margins(x=0.15, y=0.15)
    axes.set_xlim(0, 1.3 * max(milliseconds))
    for name, accuracy, time in zip(names, accuracies, milliseconds, strict=True):
        axes.plot(time, 100 * accuracy, "o")
        place = (time, 100 * accuracy)
        axes.annotate(name, place, xytext=(0, 8), textcoords="offset points", ha="center")
    figure.savefig(path, dpi=DPI)


def plot_detection(
    curve: Sequence[tuple[float, int, float]], confidence: float, path: Path
) -> None:
    """Recall (a fraction) against false positives, one point for each of several confidences that
    could be asked for; the one in force is marked."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="false positives", ylabel="recall")
    axes.grid(visible=True, alpha=0.3)
    _, false, recall = zip(*curve, strict=True)
    axes.plot(false, recall, ".-")
    at, false_there, recall_there = min(curve, key=lambda point: abs(point[0] - confidence))
    axes.plot(false_there, recall_there, "o", color="tab:red", label=f"confidence {at:.2f}")
    axes.legend()
    figure.savefig(path, dpi=DPI)
