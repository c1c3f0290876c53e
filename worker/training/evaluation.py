"""How good networks are on labelled faces: accuracy, calibration, latency."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from worker.analysis.classification import Classifier
from worker.analysis.cropping import Picture, resize
from worker.errors import UsageError
from worker.expected import AS_TRAINED
from worker.record import EMOTIONS
from worker.training.dataset import load_split, majority_labels

CALIBRATION_BINS = 15
TEMPERATURE_RANGE = (0.05, 20.0)
BATCH = 32
LATENCY_ROUNDS, WARM_UP = 100, 5  # the first calls still choose their kernels
BATCH_EVERY = 10  # rounds


@dataclass(frozen=True)
class Measured:
    """``figures``: what `evaluate emotions` prints. For the plots, of each face: ``confidence``,
    the probability of its top class, and whether that was ``correct``."""

    figures: dict[str, Any]
    confidence: NDArray[np.floating]
    correct: NDArray[np.bool_]


def evaluate_emotions(
    data: Path,
    split: str,
    weights: Sequence[Path],
    progress: Progress,
    classes: Sequence[str] = (),
    expected: str = AS_TRAINED,
) -> list[Measured]:
    """Measure the worker's own classification call on the faces of ``data/split`` that count.

    The protocol is the FER+ paper's majority vote (`majority_labels`); with ``classes`` only faces
    of these count, and probabilities are shared among them; ``expected`` as in the configuration.
    Accuracies and ``ece`` are fractions, ``interval`` is the 95 % interval of the accuracy,
    latencies are milliseconds on one thread, taken in turn where there are several weights. Raises
    UsageError for an unusable data set or weights file.
    """
    faces = load_split(data, split)
    labels = majority_labels(faces.votes)
    counts = np.isin(labels, [EMOTIONS.index(name) for name in classes or EMOTIONS])
    faces, labels = faces.select(counts), labels[counts]
    if not len(faces):
        raise UsageError(f"{data / split}: no face there has a majority for an emotion")
    measured = []
    crops = list(faces.crops)
    classifiers = [Classifier(path, classes, expected=expected) for path in weights]
    latencies = measure_latency(classifiers, crops)
    for path, classifier, latency in zip(weights, classifiers, latencies, strict=True):
        resized = [resize(crop, classifier.input_size) for crop in crops]
        starts = range(0, len(crops), BATCH)
        probabilities = np.concatenate(
            [
                classifier.classify(resized[start : start + BATCH])
                for start in progress.track(starts, description=f"evaluating {path.name}")
            ]
        )
        names = [EMOTIONS[label] for label in labels]
        missing = sorted(set(names) - set(classifier.classes))
        if missing:
            raise UsageError(f"{path} does not know {', '.join(missing)}, which is in the data")
        known = np.array([classifier.classes.index(name) for name in names])
        figures = {
            "network": classifier.facts.network,
            "weights": str(path),
            "classes": list(classifier.classes),
            "samples": len(labels),
            **accuracy_figures(probabilities, known, classifier.classes),
            "ece": expected_calibration_error(probabilities, known),
            "latency_ms": latency,
            "parameters": classifier.facts.parameters,
            **({} if expected == AS_TRAINED else {"expected": expected}),
        }
        correct = probabilities.argmax(axis=1) == known
        measured.append(Measured(figures, probabilities.max(axis=1), correct))
    return measured


def accuracy_figures(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], classes: tuple[str, ...]
) -> dict[str, Any]:
    """Accuracy in total with its interval, per class (its recall), and as a confusion matrix
    ``[true][predicted]``.

    ``probabilities``: ``(n, classes)``; ``labels``: ``(n,)``. A class without samples has accuracy
    None.
    """
    confusion = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
    samples = confusion.sum(axis=1)
    hits = int(confusion.trace())
    return {
        "accuracy": hits / len(labels),
        "interval": list(wilson_interval(hits, len(labels))),
        "per_class": {
            name: {
                "accuracy": float(confusion[i, i] / samples[i]) if samples[i] else None,
                "samples": int(samples[i]),
            }
            for i, name in enumerate(classes)
        },
        "confusion": confusion.tolist(),
    }


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a fraction of which ``hits`` of ``count`` were seen (Wilson 1927)."""
    z = 1.959964
    middle = (hits + z * z / 2) / (count + z * z)
    spread = z / (count + z * z) * math.sqrt(hits * (count - hits) / count + z * z / 4)
    return max(0.0, middle - spread), min(1.0, middle + spread)


def summary_figures(confusion: NDArray[np.integer]) -> dict[str, float]:
    """Mean recall and macro-F1 over the classes with samples, fractions; ``[true][predicted]``."""
    present = confusion.sum(axis=1) > 0
    hits = np.diag(confusion)[present]
    recall = hits / confusion.sum(axis=1)[present]
    f1 = 2 * hits / (confusion.sum(axis=1) + confusion.sum(axis=0))[present]
    return {"mean_recall": float(recall.mean()), "macro_f1": float(f1.mean())}


def measure_latency(
    classifiers: Sequence[Classifier], crops: Sequence[Picture]
) -> list[dict[str, float]]:
    """Milliseconds from uint8 crops to probabilities, medians of many calls: for one face, and for
    a face of a batch of 32. The classifiers take turns, so that a busy moment hits all alike."""
    batches = [
        [resize(crops[i % len(crops)], classifier.input_size) for i in range(BATCH)]
        for classifier in classifiers
    ]
    times: list[tuple[list[float], list[float]]] = [([], []) for _ in classifiers]
    for number in range(LATENCY_ROUNDS + WARM_UP):
        for classifier, batch, (one, many) in zip(classifiers, batches, times, strict=True):
            one.append(_seconds(classifier, batch[:1]))
            if number % BATCH_EVERY == 0:
                many.append(_seconds(classifier, batch))
    return [
        {
            "batch1": float(np.median(one[WARM_UP:])) * 1000,
            "batch32_per_face": float(np.median(many[1:])) * 1000 / BATCH,
        }
        for one, many in times
    ]


def _seconds(classifier: Classifier, batch: Sequence[Picture]) -> float:
    started = time.perf_counter()
    classifier.classify(batch)
    return time.perf_counter() - started


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
    from scipy.optimize import minimize_scalar  # of the extra `train`, which measuring goes without

    def negative_log_likelihood(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(scaled).sum(axis=1))
        return float((log_sum - scaled[np.arange(len(labels)), labels]).mean())

    low, high = (math.log(bound) for bound in TEMPERATURE_RANGE)
    found = minimize_scalar(negative_log_likelihood, bounds=(low, high), method="bounded")
    return math.exp(found.x)
