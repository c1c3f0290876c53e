"""Pictures of figures: what must be readable in them."""

from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from worker.training.plots import PEERS, Point, label_points, plot_comparison, plot_reliability


def test_labels_cover_neither_each_other_nor_the_points() -> None:
    axes = Figure(figsize=(8, 5)).add_subplot(xlim=(0, 10), ylim=(0, 100))
    crowd = [(f"network number {i}", 5 + 0.01 * i, 50.0 + i % 2) for i in range(6)]
    boxes = [label.get_window_extent() for label in label_points(axes, crowd)]
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:number])
        assert axes.bbox.contains(*box.min)
        assert axes.bbox.contains(*box.max)


def test_the_comparison_is_drawn_with_peers_and_without(tmp_path: Path) -> None:
    points = [Point("a", 0.7, 0.894, (0.883, 0.904)), Point("b", 0.71, 0.893, (0.882, 0.903))]
    plot_comparison(points, tmp_path / "own.png")
    plot_comparison(points, tmp_path / "all.png", PEERS)
    own, all_of_them = (cv2.imread(str(tmp_path / name)) for name in ("own.png", "all.png"))
    assert own is not None
    assert all_of_them is not None
    assert own.shape == all_of_them.shape
    assert not np.array_equal(own, all_of_them)


def test_a_network_that_is_always_sure_and_right_fits_into_the_last_bin(tmp_path: Path) -> None:
    path = tmp_path / "reliability.png"
    plot_reliability(np.ones(5), np.ones(5, bool), 15, path)
    assert cv2.imread(str(path)) is not None
