"""How good a network is on labelled faces: accuracy, calibration, latency; `evaluate emotions`."""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from scipy.optimize import minimize_scalar

from worker.classification import Classifier
from worker.errors import UsageError
from worker.preprocessing import Picture, resize
from worker.training.dataset import load_split, majority_labels

CALIBRATION_BINS = 15
TEMPERATURE_RANGE = (0.05, 20.0)
BATCH = 32
LATENCY_ROUNDS = 100


def evaluate_emotions(data: Path, split: str, weights: Path, progress: Progress) -> dict[str, Any]:
    """Measure the worker's own classification call on the faces of ``data/split`` that count.

    The protocol is the FER+ paper's majority vote (`majority_labels`). Accuracies and ``ece`` are
    fractions, latencies milliseconds on one thread; the keys are those that `evaluate emotions`
    prints. Raises UsageError for an unusable data set or weights file.
    """
    faces = load_split(data, split)
    labels = majority_labels(faces.votes)
    faces, labels = faces.select(labels >= 0), labels[labels >= 0]
    if not len(faces):
        raise UsageError(f"{data / split}: no face there has a majority for an emotion")
    torch.set_num_threads(1)
    classifier = Classifier(weights)
    crops = [resize(crop, classifier.input_size) for crop in faces.crops]
    probabilities = np.concatenate(
        [
            classifier.classify(crops[start : start + BATCH])
            for start in progress.track(range(0, len(crops), BATCH), description="evaluating")
        ]
    )
    return {
        "network": classifier.facts.network,
        "weights": str(weights),
        "classes": list(classifier.classes),
        "samples": len(labels),
        **accuracy_figures(probabilities, labels, classifier.classes),
        "ece": expected_calibration_error(probabilities, labels),
        "latency_ms": latency(classifier, crops),
        "parameters": classifier.parameters,
    }


def accuracy_figures(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], classes: tuple[str, ...]
) -> dict[str, Any]:
    """Accuracy in total, per class (its recall) and as a confusion matrix ``[true][predicted]``.

    ``probabilities``: ``(n, classes)``; ``labels``: ``(n,)``. A class without samples has accuracy
    None.
    """
    confusion = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
    samples = confusion.sum(axis=1)
    return {
        "accuracy": float(confusion.trace() / len(labels)),
        "per_class": {
            name: {
                "accuracy": float(confusion[i, i] / samples[i]) if samples[i] else None,
                "samples": int(samples[i]),
            }
            for i, name in enumerate(classes)
        },
        "confusion": confusion.tolist(),
    }


def latency(classifier: Classifier, crops: list[Picture]) -> dict[str, float]:
    """Milliseconds from uint8 crops to probabilities, the median of many calls: for one face, and
    for a face of a batch of 32."""

    def median_ms(batch: list[Picture], rounds: int) -> float:
        times = []
        for _ in range(rounds + 3):
            started = time.perf_counter()
            classifier.classify(batch)
            times.append(time.perf_counter() - started)
        return float(np.median(times[3:])) * 1000  # the first calls still choose their kernels

    batch = [crops[i % len(crops)] for i in range(BATCH)]
    return {
        "batch1": median_ms(batch[:1], LATENCY_ROUNDS),
        "batch32_per_face": median_ms(batch, LATENCY_ROUNDS // 10) / BATCH,
    }


def expected_calibration_error(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer]
) -> float:
    """Expected calibration error of the top class (Guo et al. 2017), 15 equal-width bins.

    ``probabilities``: ``(n, classes)``; ``labels``: ``(n,)``. A fraction: the mean distance between
    how sure the network was and how often it was right.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gap = np.bincount(bins, weights=confidence - correct, minlength=CALIBRATION_BINS)
    return float(np.abs(gap).sum() / len(labels))


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature that minimises the negative log-likelihood of the labels (Guo et al. 2017).

    ``logits``: ``(n, classes)``; ``labels``: ``(n,)``.
    """

    def negative_log_likelihood(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(scaled).sum(axis=1))
        return float((log_sum - scaled[np.arange(len(labels)), labels]).mean())

    low, high = (math.log(bound) for bound in TEMPERATURE_RANGE)
    found = minimize_scalar(negative_log_likelihood, bounds=(low, high), method="bounded")
    return math.exp(found.x)
