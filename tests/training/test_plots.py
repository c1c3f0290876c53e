"""Pictures of figures: what must be readable in them."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from worker.training.plots import plot_comparison, plot_reliability


def figures(name: str, accuracy: float, milliseconds: float) -> dict[str, Any]:
    return {
        "weights": f"{name}.onnx",
        "accuracy": accuracy,
        "interval": (accuracy - 0.01, accuracy + 0.01),
        "latency_ms": {"batch1": milliseconds},
    }


def test_the_comparison_is_drawn_with_peers_and_without(tmp_path: Path) -> None:
    every = [figures("a", 0.894, 0.7), figures("b", 0.893, 0.71)]
    plot_comparison(every, tmp_path / "new" / "own.png", peers=False)
    plot_comparison(every, tmp_path / "all.png", peers=True)
    own, all_of_them = (cv2.imread(str(tmp_path / name)) for name in ("new/own.png", "all.png"))
    assert own is not None
    assert all_of_them is not None
    assert own.shape == all_of_them.shape
    assert not np.array_equal(own, all_of_them)


def test_a_network_that_is_always_sure_and_right_fits_into_the_last_bin(tmp_path: Path) -> None:
    path = tmp_path / "reliability.png"
    bins = [0] * 14 + [5]
    plot_reliability({"calibration": {"faces": bins, "right": bins}}, path)
    assert cv2.imread(str(path)) is not None
