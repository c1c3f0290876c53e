"""Pictures of a training and of what a network can do; each function writes one PNG file.

``figures`` are what `worker.training.evaluation` measured.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from worker.files import replace_file
from worker.training.figures import network_names

# Milliseconds and accuracy of peers that know FER2013's original labels, on 3,153 FER+ test faces.
# Their times are of another machine, and of one run there.
PEERS = {"fer 25.10.3": (0.82, 0.670), "face-api": (11.5, 0.686), "human": (7.3, 0.664)}

SHAPES = "osD^vP*X<>"  # of points, for those who do not tell the colours apart


@contextmanager
def drawing(path: Path, width: float, height: float, **labels: Any) -> Iterator[Axes]:
    """Axes to draw on, of a picture so many inches large, which is then written. Raises Stop."""
    figure, content = Figure((width, height), dpi=120, layout="constrained"), io.BytesIO()
    yield figure.add_subplot(**labels)
    figure.savefig(content)
    replace_file(path, content.getvalue())


def plot_learning(losses: Sequence[float], accuracies: Sequence[float], path: Path) -> None:
    """Mean training loss and validation accuracy (a fraction) of each epoch."""
    with drawing(path, 7, 4, xlabel="epoch", ylabel="training loss (blue)") as axes:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        epochs = range(1, len(losses) + 1)
        axes.plot(epochs, losses, ".-", color="tab:blue")
        right = axes.twinx()
        right.plot(epochs, 100 * np.array(accuracies), ".-", color="tab:orange")
        right.set(ylabel="validation accuracy, % (orange)", ylim=(None, 100))


def plot_confusion(figures: dict[str, Any], path: Path) -> None:
    """Confusion matrix ``[true][predicted]``: counts as text, share of the true class as colour."""
    confusion, classes = np.array(figures["confusion"]), figures["classes"]
    shares = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    with drawing(path, 8, 6, xlabel="predicted", ylabel="majority of the annotators") as axes:
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        axes.figure.colorbar(image, label="of the faces in a row (%)")
        axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
        axes.set_yticks(range(len(classes)), classes)
        for (row, column), count in np.ndenumerate(confusion):
            colour = "white" if shares[row, column] > 50 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour)


def plot_reliability(figures: dict[str, Any], path: Path) -> None:
    """How often something was right against how sure it was, with the faces in each bin."""
    faces, right = (np.array(figures["calibration"][key]) for key in ("faces", "right"))
    edges = np.linspace(0, 100, len(faces) + 1)
    labels = {"xlabel": "stated probability (%)", "ylabel": "was right (%)"}
    with drawing(path, 7, 6, **labels, xlim=(0, 100), ylim=(0, 100)) as axes:
        accuracy = 100 * right / np.maximum(faces, 1)
        bars = axes.bar(edges[:-1], accuracy, np.diff(edges), align="edge", edgecolor="white")
        axes.bar_label(bars, faces, label_type="center", fontsize=8, color="white")
        axes.plot([0, 100], [0, 100], "k--", label="perfectly calibrated; in a bar: its faces")
        axes.legend(loc="upper left")


def plot_comparison(every: Sequence[dict[str, Any]], path: Path, *, peers: bool) -> None:
    """Accuracy with its interval against the time for one face; with ``peers`` also of packages of
    other people, hollow, which is fair on FER+ test faces alone."""
    points = [
        (each["accuracy"], each["latency_ms"]["batch1"], name, each["interval"])
        for name, each in zip(network_names(every), every, strict=True)
    ]
    if peers:
        points += [(own, time, name, (own, own)) for name, (time, own) in PEERS.items()]
    with drawing(path, 9, 5, xlabel="one face, one thread (ms)", ylabel="accuracy (%)") as axes:
        axes.grid(visible=True, alpha=0.3)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        best_first = sorted(points, key=lambda point: -point[0])
        for shape, (accuracy, time, name, (low, high)) in zip(cycle(SHAPES), best_first):
            fill = "none" if name in PEERS else None
            [point] = axes.plot(time, 100 * accuracy, shape, label=name, markerfacecolor=fill)
            axes.vlines(time, 100 * low, 100 * high, color=point.get_color(), alpha=0.5)
        axes.set_ylim(top=100)
        axes.figure.legend(loc="outside right upper")  # beside the picture, nothing is covered


def plot_detection(
    curve: Sequence[tuple[float, float, float]], confidence: float, path: Path
) -> None:
    """Recall (a fraction) against false faces a picture, one point ``(confidence, false, recall)``
    for each of several confidences that could be asked for; the one in force is marked."""
    with drawing(path, 7, 5, xlabel="false faces a picture", ylabel="recall") as axes:
        axes.grid(visible=True, alpha=0.3)
        _, false, recall = zip(*curve, strict=True)
        axes.plot(false, recall, ".-")
        at, false_there, recall_there = min(curve, key=lambda point: abs(point[0] - confidence))
        axes.plot(false_there, recall_there, "o", color="tab:red", label=f"confidence {at:.2f}")
        axes.legend()
