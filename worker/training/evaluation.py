"""How good networks are on labelled faces: accuracy, calibration, latency."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from timeit import timeit
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.analysis.classification import Classifier
from worker.analysis.cropping import resize
from worker.config import ClassificationConfig
from worker.errors import UsageError
from worker.record import EMOTIONS
from worker.training.dataset import load_split, majority_labels

CALIBRATION_BINS = 15
TEMPERATURE_RANGE = (0.05, 20.0)
WARM_UP = 5  # the first calls still choose their kernels
# Faces in one call, and how many calls are measured.
LATENCIES = {"batch1": (1, 100), "batch32_per_face": (32, 10)}


def evaluate_emotions(
    data: Path, split: str, weights: Sequence[Path], wanted: ClassificationConfig
) -> list[dict[str, Any]]:
    """Measure the worker's own classification call on the faces of ``data/split`` that count: for
    each weights file what `evaluate emotions --json` writes.

    The protocol is the FER+ paper's majority vote (`majority_labels`). Of ``wanted`` count the
    classes, of which only faces are taken then, and what is expected. Latencies are milliseconds on
    one thread. Raises UsageError for an unusable data set or weights file.
    """
    faces = load_split(data, split)
    classes = wanted.classes or EMOTIONS
    # The last one is for faces without a majority.
    places = [classes.index(name) if name in classes else -1 for name in EMOTIONS] + [-1]
    labels = np.array(places)[majority_labels(faces.votes)]
    crops, labels = faces.crops[labels >= 0], labels[labels >= 0]
    if not len(crops):
        raise UsageError(f"{data / split}: no face there has a majority for an emotion")
    classifiers = [Classifier(path, classes, expected=wanted.expected) for path in weights]
    latencies = measure_latency(classifiers, crops)
    every = []
    for path, classifier, latency in zip(weights, classifiers, latencies, strict=True):
        resized = np.array([resize(crop, classifier.input_size) for crop in crops])
        figures = {
            "network": classifier.facts.network,
            "weights": str(path),
            "classes": list(classes),
            "expected": wanted.expected,
            "samples": len(labels),
            "latency_ms": latency,
            "parameters": classifier.facts.parameters,
            "bytes": path.stat().st_size,
        }
        every.append(figures | accuracy_figures(classifier.classify(resized), labels, classes))
    return every


def accuracy_figures(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], classes: Sequence[str]
) -> dict[str, Any]:
    """Accuracy in total with its interval, per class (its recall), and as a confusion matrix
    ``[true][predicted]``; mean recall and macro-F1 over the classes with samples; calibration. All
    fractions.

    ``probabilities``: ``(n, classes)``; ``labels``: ``(n,)``. A class without samples has accuracy
    None.
    """
    confusion = np.zeros((len(classes), len(classes)), dtype=int)
    predicted = probabilities.argmax(axis=1)
    np.add.at(confusion, (labels, predicted), 1)
    hits, samples = np.diag(confusion), confusion.sum(axis=1)
    recall = hits / np.maximum(samples, 1)
    f1 = 2 * hits / np.maximum(samples + confusion.sum(axis=0), 1)
    right = int(hits.sum())
    return {
        "accuracy": right / len(labels),
        "interval": wilson_interval(right, len(labels)),
        "mean_recall": float(recall[samples > 0].mean()),
        "macro_f1": float(f1[samples > 0].mean()),
        "per_class": {
            name: {"accuracy": own if count else None, "samples": count}
            for name, own, count in zip(classes, recall.tolist(), samples.tolist(), strict=True)
        },
        "confusion": confusion.tolist(),
        **calibration_figures(probabilities.max(axis=1), predicted == labels),
    }


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a fraction of which ``hits`` of ``count`` were seen (Wilson 1927)."""
    z = 1.959964
    middle = (hits + z * z / 2) / (count + z * z)
    spread = z / (count + z * z) * math.sqrt(hits * (count - hits) / count + z * z / 4)
    return max(0.0, middle - spread), min(1.0, middle + spread)


def calibration_figures(
    sure: NDArray[np.floating], right: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> dict[str, Any]:
    """``ece``, the expected calibration error (Guo et al. 2017): the mean distance between how sure
    the network was and how often it was right, a fraction. And what it is made of: in each of the
    equal-width bins of the probability, the number of ``faces``, and of those that it was ``right``
    about.

    ``sure``: the stated probability ``(n,)`` of each face, 0..1; ``right``: ``(n,)``.
    """
    chosen = np.minimum((sure * bins).astype(int), bins - 1)
    gap = np.bincount(chosen, weights=sure - right, minlength=bins)
    return {
        "ece": float(np.abs(gap).sum() / max(len(sure), 1)),
        "calibration": {
            "faces": np.bincount(chosen, minlength=bins).tolist(),
            "right": np.bincount(chosen[right], minlength=bins).tolist(),
        },
    }


def measure_latency(
    classifiers: Sequence[Classifier], crops: NDArray[np.uint8]
) -> list[dict[str, float]]:
    """Milliseconds a face from uint8 crops ``(n, side, side)`` to probabilities, medians of many
    calls with one face or 32. The classifiers take turns, so that a busy moment hits all alike."""
    figures: list[dict[str, float]] = [{} for _ in classifiers]
    for name, (faces, rounds) in LATENCIES.items():
        chosen = [crops[i % len(crops)] for i in range(faces)]
        batches = [[resize(crop, each.input_size) for crop in chosen] for each in classifiers]
        calls = [
            partial(each.classify, own) for each, own in zip(classifiers, batches, strict=True)
        ]
        seconds = [[timeit(call, number=1) for call in calls] for _ in range(WARM_UP + rounds)]
        medians = np.median(seconds[WARM_UP:], axis=0).tolist()
        for own, median in zip(figures, medians, strict=True):
            own[name] = 1000 * median / faces
    return figures


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature that minimises the negative log-likelihood of the labels (Guo et al. 2017).

    ``logits``: ``(n, classes)``; ``labels``: ``(n,)``.
    """
    from scipy.optimize import minimize_scalar  # of the extra `train`, which measuring goes without
    from scipy.special import log_softmax

    def loss(log_temperature: float) -> float:
        likelihoods = log_softmax(logits / math.exp(log_temperature), axis=1)
        return -float(likelihoods[np.arange(len(labels)), labels].mean())

    bounds = np.log(TEMPERATURE_RANGE)
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x)
