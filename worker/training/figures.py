"""What `evaluate` and `compare` show of their figures: tables and pictures."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from worker.terminal import show_table
from worker.training.evaluation import CALIBRATION_BINS, Measured, summary_figures

FEW = 200  # faces: below, the interval is more than ten points wide


def show_evaluation(figures: dict[str, Any]) -> None:
    """Totals, then the recall of each class with its row of the confusion matrix."""
    latency = figures["latency_ms"]
    print(
        f"{figures['weights']} ({figures['network']}, {figures['parameters']:,} parameters), "
        f"{figures['samples']} faces: accuracy {figures['accuracy']:.4f} (95 % interval "
        f"{figures['interval'][0]:.4f} to {figures['interval'][1]:.4f}), calibration error "
        f"{figures['ece']:.4f}; one face {latency['batch1']:.2f} ms, "
        f"one of 32 {latency['batch32_per_face']:.2f} ms"
    )
    _warn_of_few(figures["samples"])
    rows = [
        (name, _or_none(recall["accuracy"]), recall["samples"], *row)
        for (name, recall), row in zip(
            figures["per_class"].items(), figures["confusion"], strict=True
        )
    ]
    columns = ("true \\ predicted", "recall", "faces", *figures["classes"])
    show_table(columns, rows, heading=True)


def draw_evaluation(measured: Measured, folder: Path) -> None:
    """confusion.png and reliability.png in ``folder``, which is made."""
    from worker.training.plots import plot_confusion, plot_reliability  # with matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    figures = measured.figures
    confusion = np.array(figures["confusion"])
    plot_confusion(confusion, figures["classes"], folder / "confusion.png")
    plot_reliability(
        measured.confidence, measured.correct, CALIBRATION_BINS, folder / "reliability.png"
    )


def compare_figures(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures of one network with what only a comparison has: mean recall and macro-F1 over the
    classes in the data (fractions), and the size of the file in bytes."""
    return {
        **figures,
        **summary_figures(np.array(figures["confusion"])),
        "bytes": Path(figures["weights"]).stat().st_size,
    }


COMPARED: dict[str, Callable[[dict[str, Any]], str]] = {
    "accuracy": lambda each: _percent(each["accuracy"]),
    "95 % interval": lambda each: " to ".join(f"{100 * end:.1f}" for end in each["interval"]),
    "mean recall": lambda each: _percent(each["mean_recall"]),
    "macro-F1": lambda each: f"{each['macro_f1']:.3f}",
    "calibration error": lambda each: f"{each['ece']:.3f}",
    "one face (ms)": lambda each: f"{each['latency_ms']['batch1']:.2f}",
    "one of 32 (ms)": lambda each: f"{each['latency_ms']['batch32_per_face']:.2f}",
    "parameters": lambda each: f"{each['parameters'] / 1e6:.2f} M",
    "file (MB)": lambda each: f"{each['bytes'] / 1e6:.1f}",
}


def show_comparison(figures: Sequence[dict[str, Any]]) -> None:
    """How many faces; one line a network, the most accurate first; and one an emotion in the data
    with the recall of each network, as tables that Markdown reads."""
    print(f"{figures[0]['samples']} faces\n")
    _warn_of_few(figures[0]["samples"])
    names = network_names(figures)
    best = sorted(zip(names, figures, strict=True), key=lambda pair: -pair[1]["accuracy"])
    totals = [[name, *(text(each) for text in COMPARED.values())] for name, each in best]
    _show_markdown(["weights", *COMPARED], totals)
    print()
    recalls = [
        [
            emotion,
            str(faces),
            *(_percent(each["per_class"][emotion]["accuracy"]) for each in figures),
        ]
        for emotion, first in figures[0]["per_class"].items()
        if (faces := first["samples"])
    ]
    _show_markdown(["recall", "faces", *names], recalls)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def network_names(figures: Sequence[dict[str, Any]]) -> list[str]:
    """What tables and pictures call each network: its file, with the folder where files of two
    folders have one name."""
    paths = [Path(each["weights"]) for each in figures]
    stems = [path.stem for path in paths]
    return stems if len(set(stems)) == len(stems) else [str(path) for path in paths]


def _show_markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def draw_comparison(figures: Sequence[dict[str, Any]], folder: Path, *, peers: bool) -> None:
    """comparison.png in ``folder``, which is made: accuracy against time; with ``peers`` also of
    packages of other people, which is fair on FER+ test faces alone."""
    from worker.training.plots import PEERS, Point, plot_comparison

    folder.mkdir(parents=True, exist_ok=True)
    points = [
        Point(name, each["latency_ms"]["batch1"], each["accuracy"], tuple(each["interval"]))
        for name, each in zip(network_names(figures), figures, strict=True)
    ]
    plot_comparison(points, folder / "comparison.png", PEERS if peers else ())


def _warn_of_few(samples: int) -> None:
    if samples < FEW:
        print(
            f"warning: {samples} faces are few: two networks whose 95 % intervals overlap are not "
            f"told apart by them; label {FEW} or more",
            file=sys.stderr,
        )


def _or_none(recall: float | None) -> str:
    return "-" if recall is None else f"{recall:.3f}"
