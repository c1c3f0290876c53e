"""What `evaluate` and `compare` say of their figures, as tables."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from worker.terminal import show_table

FEW = 200  # faces: below, the interval is more than ten points wide

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


def show_evaluation(figures: dict[str, Any]) -> None:
    """The same as of several networks, then the confusion matrix."""
    show_comparison([figures])
    print()
    classes, confusion = figures["classes"], figures["confusion"]
    rows = [(name, *row) for name, row in zip(classes, confusion, strict=True)]
    show_table(("true \\ predicted", *classes), rows, heading=True)


def show_comparison(figures: Sequence[dict[str, Any]]) -> None:
    """How many faces; one line a network, the most accurate first; and one an emotion in the data
    with the recall of each network, as tables that Markdown reads."""
    samples = figures[0]["samples"]
    print(f"{samples} faces\n")
    if samples < FEW:
        print(
            f"warning: {samples} faces are few: two networks whose 95 % intervals overlap are not "
            f"told apart by them; label {FEW} or more",
            file=sys.stderr,
        )
    named = [*zip(network_names(figures), figures, strict=True)]
    best = sorted(named, key=lambda pair: -pair[1]["accuracy"])
    totals = [(name, *(text(each) for text in COMPARED.values())) for name, each in best]
    _show_markdown(("weights", *COMPARED), totals)
    print()
    recalls = []
    for emotion, first in figures[0]["per_class"].items():
        if first["samples"]:
            own = [_percent(each["per_class"][emotion]["accuracy"]) for each in figures]
            recalls.append((emotion, str(first["samples"]), *own))
    _show_markdown(("recall", "faces", *(name for name, _ in named)), recalls)


def network_names(figures: Sequence[dict[str, Any]]) -> list[str]:
    """What tables and pictures call each network: its file, with the folder if files of two folders
    have one name."""
    paths = [Path(each["weights"]) for each in figures]
    stems = [path.stem for path in paths]
    return stems if len(set(stems)) == len(stems) else [str(path) for path in paths]


def _show_markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for row in (columns, ["---"] * len(columns), *rows):
        print("| " + " | ".join(row) + " |")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
