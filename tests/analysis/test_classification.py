"""The worker's own classification call with the shipped weights."""

from pathlib import Path

import numpy as np
import pytest

from worker.analysis.classification import BATCH, Classifier
from worker.analysis.weights_file import read_weights, save_weights
from worker.config import PROJECT
from worker.errors import UsageError
from worker.record import EMOTIONS

WEIGHTS = PROJECT / "weights" / "custom_net.safetensors"
CROPS = np.random.default_rng(0).integers(0, 256, (BATCH + 3, 48, 48)).astype(np.uint8)


def test_no_face_gives_no_probabilities() -> None:
    assert Classifier(WEIGHTS).classify([]).shape == (0, 8)


def test_a_face_gets_the_same_probabilities_alone_and_in_a_crowd() -> None:
    classifier = Classifier(WEIGHTS)
    together = classifier.classify(CROPS)
    assert together.dtype == np.float32
    assert together.shape == (BATCH + 3, 8)
    assert np.allclose(together.sum(axis=1), 1, atol=1e-5)
    for i in (0, BATCH - 1, BATCH, BATCH + 2):
        assert np.allclose(classifier.classify(CROPS[i : i + 1])[0], together[i], atol=1e-4)


def test_a_subset_of_the_classes_is_renormalised() -> None:
    whole = Classifier(WEIGHTS).classify(CROPS[:4])
    part = Classifier(WEIGHTS, ("anger", "neutral")).classify(CROPS[:4])
    columns = whole[:, [EMOTIONS.index("anger"), EMOTIONS.index("neutral")]]
    assert np.allclose(part, columns / columns.sum(axis=1, keepdims=True), atol=1e-5)


def test_a_class_that_the_network_does_not_know_is_named() -> None:
    with pytest.raises(UsageError, match="does not know joy"):
        Classifier(WEIGHTS, ("joy", "neutral"))


def test_tensors_that_do_not_fit_the_network_are_refused(tmp_path: Path) -> None:
    state, facts = read_weights(WEIGHTS)
    path = tmp_path / "w.safetensors"
    save_weights(path, {**state, "head.1.weight": state["head.1.weight"][:5]}, facts)
    with pytest.raises(UsageError, match="do not fit the network custom_net"):
        Classifier(path)
    save_weights(path, state, facts.model_copy(update={"network": "other_net"}))
    with pytest.raises(UsageError, match="unknown network 'other_net'; known: custom_net"):
        Classifier(path)


def test_the_temperature_sharpens_or_softens(tmp_path: Path) -> None:
    state, facts = read_weights(WEIGHTS)
    sharpness = []
    for temperature in (0.5, 1.0, 2.0):
        path = tmp_path / f"{temperature}.safetensors"
        save_weights(path, state, facts.model_copy(update={"temperature": temperature}))
        sharpness.append(Classifier(path).classify(CROPS).max(axis=1).mean())
    assert sharpness[0] > sharpness[1] > sharpness[2]


def test_mirrored_weights_are_asked_about_both_sides_of_a_face(tmp_path: Path) -> None:
    state, facts = read_weights(WEIGHTS)
    both = []
    for mirrored in (False, True):
        path = tmp_path / f"{mirrored}.safetensors"
        facts = facts.model_copy(update={"mirrored": mirrored, "temperature": 1.0})
        save_weights(path, state, facts)
        classifier = Classifier(path)
        both.append([classifier.classify(crops) for crops in (CROPS[:3], CROPS[:3, :, ::-1])])
    (plain, plain_mirrored), (mean, mean_mirrored) = both
    assert np.allclose(mean, mean_mirrored, atol=1e-5)
    assert not np.allclose(plain, plain_mirrored, atol=1e-3)
    # The mean of logits is the geometric mean of probabilities, made to add up to 1 again.
    expected = np.sqrt(plain * plain_mirrored)
    assert np.allclose(mean, expected / expected.sum(axis=1, keepdims=True), atol=1e-4)
