"""Every network, as it is built and as the worker calls it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from worker.analysis.classification import Classifier, load_network
from worker.analysis.cropping import normalise
from worker.analysis.weights_file import Facts, save_weights
from worker.errors import UsageError
from worker.record import EMOTIONS
from worker.training.networks import NETWORKS, build_network

PARAMETERS = {"custom_net": 1_642_432, "vgg_net": 8_758_000}


@pytest.fixture(params=sorted(NETWORKS))
def weights(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Made-up weights, with batch norms that have seen something."""
    torch.manual_seed(1)
    network = build_network(request.param, len(EMOTIONS))
    side = network.input_size
    assert isinstance(side, int)
    with torch.no_grad():
        for _ in range(30):
            network.train()(torch.randn(8, 1, side, side))
    # Untrained networks give nearly the same to every face; this tells them apart.
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    last.weight.data *= 100
    facts = Facts(
        network=request.param,
        classes=EMOTIONS,
        input_size=side,
        normalisation="per-face",
        temperature=1.3,
        training_command="made up",
        validation_accuracy=0.1,
    )
    path = tmp_path / "w.safetensors"
    save_weights(path, {name: value.numpy() for name, value in network.state_dict().items()}, facts)
    return path


def test_the_compiled_network_gives_what_the_plain_one_gives(weights: Path) -> None:
    classifier = Classifier(weights)
    side = classifier.input_size
    crops = np.random.default_rng(0).integers(0, 256, (7, side, side)).astype(np.uint8)
    network, facts = load_network(weights)
    with torch.inference_mode():
        logits = network(normalise(torch.from_numpy(crops)))
    plain = torch.softmax(logits / facts.temperature, dim=1).numpy()
    assert np.allclose(classifier.classify(crops), plain, atol=1e-3)
    assert np.ptp(plain, axis=0).max() > 0.02  # the faces are told apart at all
    if facts.network in PARAMETERS:
        assert classifier.parameters == pytest.approx(PARAMETERS[facts.network], rel=0.01)


def test_an_unknown_network_is_named_with_those_there_are() -> None:
    known = "custom_net, emotion_net, emotion_net_small, face_net, vgg_net"
    with pytest.raises(UsageError, match=f"unknown network 'deep_net'; known: {known}"):
        build_network("deep_net", 8)
