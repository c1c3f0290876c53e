"""Accuracy, calibration and latency, on numbers worked by hand and on the shipped weights."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from worker.analysis.face_net import FACE_WEIGHTS
from worker.config import ClassificationConfig
from worker.errors import UsageError
from worker.files import PROJECT
from worker.record import EMOTIONS
from worker.training.evaluation import (
    accuracy_figures,
    calibration_figures,
    evaluate_emotions,
    fit_temperature,
    wilson_interval,
)

WEIGHTS = PROJECT / "weights" / "custom_net.onnx"


def test_mean_recall_and_macro_f1_worked_by_hand() -> None:
    # The confusion matrix is [[3, 1, 0], [2, 2, 0], [0, 0, 0]].
    labels, predicted = np.array([0] * 4 + [1] * 4), [0, 0, 0, 1, 0, 0, 1, 1]
    figures = accuracy_figures(np.eye(3)[predicted], labels, ("a", "b", "c"))
    assert figures["mean_recall"] == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert figures["macro_f1"] == pytest.approx((6 / 9 + 4 / 7) / 2)


def test_accuracy_per_class_and_confusion_worked_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.6, 0.4, 0], [0.3, 0.7, 0]])
    figures = accuracy_figures(probabilities, np.array([0, 1, 1, 1]), ("a", "b", "c"))
    assert figures["accuracy"] == 0.75
    assert figures["interval"] == pytest.approx([0.3006, 0.9544], abs=1e-4)
    assert figures["per_class"] == {
        "a": {"accuracy": 1.0, "samples": 1},
        "b": {"accuracy": pytest.approx(2 / 3), "samples": 3},
        "c": {"accuracy": None, "samples": 0},
    }
    assert figures["confusion"] == [[1, 0, 0], [1, 2, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (8, 10, 0.4902, 0.9433),
        (2853, 3191, 0.8829, 0.9043),
    ],
)
def test_the_interval_is_wilsons(hits: int, count: int, low: float, high: float) -> None:
    assert wilson_interval(hits, count) == pytest.approx((low, high), abs=1e-4)


def test_calibration_error_worked_by_hand() -> None:
    # Sure to 0.9 and right three times of four; sure to 0.6 and right: (4*0.15 + 1*0.4) / 5.
    sure, right = np.array([0.9, 0.9, 0.9, 0.9, 0.6]), np.array([True, True, True, False, True])
    figures = calibration_figures(sure, right)
    assert figures["ece"] == pytest.approx(0.2)
    assert figures["calibration"]["faces"] == [*[0] * 9, 1, 0, 0, 0, 4, 0]
    assert figures["calibration"]["right"] == [*[0] * 9, 1, 0, 0, 0, 3, 0]


def test_being_quite_sure_and_always_right_is_no_error() -> None:
    assert calibration_figures(np.ones(5), np.ones(5, bool))["ece"] == 0


def softmax(logits: np.ndarray) -> np.ndarray:
    scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    error = accuracy_figures(probabilities, labels, EMOTIONS)["ece"]
    assert isinstance(error, float)
    return error


@pytest.mark.parametrize("skew", [0.3, 1.0, 4.0])
def test_the_fitted_temperature_undoes_a_skew(skew: float) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (20_000, 8))
    labels = np.array([random.choice(8, p=row) for row in softmax(logits)])
    skewed = logits * skew
    temperature = fit_temperature(skewed, labels)
    assert temperature == pytest.approx(skew, rel=0.06)
    fitted = calibration_error(softmax(skewed / temperature), labels)
    assert fitted < 0.015
    if skew != 1:
        assert fitted < calibration_error(softmax(skewed), labels) / 3


def test_the_shipped_weights_are_evaluated_on_a_data_set_in_the_ferplus_layout(
    tmp_path: Path,
) -> None:
    split = tmp_path / "FER2013Test"
    split.mkdir()
    random = np.random.default_rng(0)
    lines = []
    for i in range(20):
        cv2.imwrite(str(split / f"{i}.png"), random.integers(0, 256, (48, 48)).astype(np.uint8))
        votes = [0] * 10
        votes[i % 10] = 10
        lines.append(f'{i}.png,"(0, 0, 48, 48)",{",".join(map(str, votes))}')
    (split / "label.csv").write_text("\n".join(lines))
    wanted = ClassificationConfig()
    [figures] = evaluate_emotions(tmp_path, "FER2013Test", [WEIGHTS], wanted)
    assert set(figures) == {
        *("network", "weights", "classes", "samples", "accuracy", "per_class", "confusion", "ece"),
        *("interval", "latency_ms", "parameters", "bytes", "mean_recall", "macro_f1", "expected"),
        "calibration",
    }
    assert figures["network"] == "custom_net"
    assert figures["classes"] == list(EMOTIONS)
    assert figures["samples"] == sum(figures["calibration"]["faces"]) == 16
    assert figures["parameters"] == 1_642_432
    assert figures["accuracy"] == sum(figures["calibration"]["right"]) / 16
    assert np.sum(figures["confusion"]) == 16
    assert figures["latency_ms"]["batch1"] > 0
    assert figures["latency_ms"]["batch32_per_face"] > 0
    with pytest.raises(UsageError, match="FER2013Valid"):
        evaluate_emotions(tmp_path, "FER2013Valid", [WEIGHTS], wanted)
    five = replace(wanted, classes=("neutral", "happiness", "surprise", "sadness", "anger"))
    [figures] = evaluate_emotions(tmp_path, "FER2013Test", [WEIGHTS], five)
    assert figures["classes"] == list(five.classes)
    assert figures["samples"] == 10
    assert np.shape(figures["confusion"]) == (5, 5)
    with pytest.raises(UsageError, match=r"face_net.* neutral"):
        evaluate_emotions(tmp_path, "FER2013Test", [FACE_WEIGHTS], wanted)
