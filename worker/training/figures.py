"""What `evaluate` and `compare` show of their figures: tables and pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from worker.terminal import show_table
from worker.training.evaluation import CALIBRATION_BINS, Measured, summary_figures


def show_evaluation(figures: dict[str, Any]) -> None:
    """Totals, then the recall of each class with its row of the confusion matrix."""
    latency = figures["latency_ms"]
    print(
        f"{figures['weights']} ({figures['network']}, {figures['parameters']:,} parameters), "
        f"{figures['samples']} faces: accuracy {figures['accuracy']:.4f}, calibration error "
        f"{figures['ece']:.4f}; one face {latency['batch1']:.2f} ms, "
        f"one of 32 {latency['batch32_per_face']:.2f} ms"
    )
    rows = [
        (name, _or_none(recall["accuracy"]), recall["samples"], *row)
        for (name, recall), row in zip(
            figures["per_class"].items(), figures["confusion"], strict=True
        )
    ]
    columns = ("true \\ predicted", "recall", "faces", *figures["classes"])
    console = Console()
    show_table("", columns, rows if console.is_terminal else [columns, *rows], console)


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
    "mean recall": lambda each: _percent(each["mean_recall"]),
    "macro-F1": lambda each: f"{each['macro_f1']:.3f}",
    "calibration error": lambda each: f"{each['ece']:.3f}",
    "one face (ms)": lambda each: f"{each['latency_ms']['batch1']:.2f}",
    "one of 32 (ms)": lambda each: f"{each['latency_ms']['batch32_per_face']:.2f}",
    "parameters": lambda each: f"{each['parameters'] / 1e6:.2f} M",
    "file (MB)": lambda each: f"{each['bytes'] / 1e6:.1f}",
}


def show_comparison(figures: Sequence[dict[str, Any]]) -> None:
    """One line a network, the most accurate first, and one an emotion in the data with the recall
    of each network, as tables that Markdown reads."""
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


def draw_comparison(figures: Sequence[dict[str, Any]], folder: Path) -> None:
    """comparison.png in ``folder``, which is made: accuracy against time."""
    from worker.training.plots import plot_comparison

    folder.mkdir(parents=True, exist_ok=True)
    plot_comparison(
        network_names(figures),
        [each["accuracy"] for each in figures],
        [each["latency_ms"]["batch1"] for each in figures],
        folder / "comparison.png",
    )


def _or_none(recall: float | None) -> str:
    return "-" if recall is None else f"{recall:.3f}"
