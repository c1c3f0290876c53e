"""A trained network as a file and back: nothing is lost, and both engines agree."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.numpy
import torch
from torch import nn

from worker.analysis.classification import Classifier
from worker.analysis.weights_file import Facts, read_weights
from worker.cli import main
from worker.config import PROJECT
from worker.errors import UsageError
from worker.record import EMOTIONS
from worker.training.export import Exported, export_network, load_network, normalise
from worker.training.networks import build_network, sizes_of

SMALL = {"channels": [8, 16], "blocks": [1, 2]}


def experienced(name: str, sizes: dict[str, Any] | None, side: int) -> nn.Module:
    """A made-up network whose batch norms have seen something, and which tells faces apart."""
    torch.manual_seed(1)
    network = build_network(name, len(EMOTIONS), sizes)
    with torch.no_grad():
        for _ in range(5):
            network.train()(torch.randn(8, 1, side, side))
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        logits = network.eval()(normalise(torch.from_numpy(crops_for(side))))
    last.bias.data -= logits.mean(dim=0)
    for each in (last.weight, last.bias):
        each.data *= 2 / logits.std(dim=0).mean()
    return network


def facts_of(network: nn.Module, name: str, side: int, *, mirrored: bool = False) -> Facts:
    return Facts(
        network=name,
        classes=EMOTIONS,
        input_size=side,
        temperature=1.3,
        recipe="made up",
        validation_accuracy=0.1,
        mirrored=mirrored,
        sizes=sizes_of(network),
    )


def crops_for(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, side, side)).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "sizes", "side", "mirrored"),
    [
        ("emotion_net", SMALL, 48, False),
        ("emotion_net_small", {**SMALL, "attention": False, "shortcut": "convolution"}, 48, True),
        ("face_net", {**SMALL, "stem": 8, "stem_stride": 1}, 32, False),
        ("custom_net", None, 48, False),
        ("vgg_net", None, 48, False),
    ],
)
def test_a_network_is_read_back_as_it_was_and_both_engines_agree(
    name: str, sizes: dict[str, Any] | None, side: int, mirrored: bool, tmp_path: Path
) -> None:
    # Given a trained network
    network = experienced(name, sizes, side)
    facts = facts_of(network, name, side, mirrored=mirrored)
    # When it is exported
    export_network(tmp_path / "w.onnx", network, facts)
    # Then every entry of its state dict comes back, under its name
    again, read = load_network(tmp_path / "w.onnx")
    before, after = network.state_dict(), again.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)
    parameters = sum(each.numel() for each in network.parameters())
    assert (read.network, read.sizes, read.parameters) == (name, facts.sizes, parameters)
    # And ONNX Runtime gives what torch gives
    crops = crops_for(side)
    with torch.inference_mode():
        expected = Exported(network, facts).eval()(torch.from_numpy(crops)).numpy()
    assert np.abs(Classifier(tmp_path / "w.onnx").classify(crops) - expected).max() < 1e-5
    assert np.ptp(expected, axis=0).max() > 0.02  # the faces are told apart at all


def test_the_shipped_default_gives_in_torch_what_it_gives_in_onnx_runtime() -> None:
    path, crops = PROJECT / "weights" / "emotion_net.onnx", crops_for(48)
    network, facts = load_network(path)
    with torch.inference_mode():
        expected = Exported(network, facts).eval()(torch.from_numpy(crops)).numpy()
    assert np.abs(Classifier(path).classify(crops) - expected).max() < 1e-5


def test_batch_norm_stays_and_nothing_of_this_machine_is_in_the_file(tmp_path: Path) -> None:
    network = experienced("emotion_net", SMALL, 48)
    export_network(tmp_path / "w.onnx", network, facts_of(network, "emotion_net", 48))
    content, _ = read_weights(tmp_path / "w.onnx")
    graph = onnx.load_model_from_string(content).graph
    norms = sum(isinstance(each, nn.BatchNorm2d) for each in network.modules())
    assert sum(node.op_type == "BatchNormalization" for node in graph.node) == norms
    for word in (str(PROJECT), "site-packages", str(tmp_path)):
        assert word.encode() not in content


def test_a_mirrored_network_is_asked_about_both_sides_of_a_face() -> None:
    network = experienced("emotion_net", SMALL, 48)
    crops = torch.from_numpy(crops_for(48))
    plain = Exported(network, facts_of(network, "emotion_net", 48)).eval()
    mean = Exported(network, facts_of(network, "emotion_net", 48, mirrored=True)).eval()
    with torch.inference_mode():
        one, other = plain(crops), plain(crops.flip(2))
        assert torch.allclose(mean(crops), mean(crops.flip(2)), atol=1e-5)
        assert not torch.allclose(one, other, atol=1e-3)
        # The mean of logits is the geometric mean of probabilities, made to add up to 1 again.
        expected = (one * other).sqrt()
        assert torch.allclose(mean(crops), expected / expected.sum(1, keepdim=True), atol=1e-4)


def test_each_face_is_normalised_by_itself() -> None:
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 48, 48)))
    faces = normalise(noise.to(torch.uint8))
    assert faces.shape == (3, 1, 48, 48)
    assert faces.dtype == torch.float32
    assert torch.allclose(faces.mean(dim=(1, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(faces.std(dim=(1, 2, 3), correction=0), torch.ones(3), atol=1e-5)
    assert torch.equal(normalise(torch.full((1, 48, 48), 9.0)), torch.zeros(1, 1, 48, 48))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(number: float, tmp_path: Path) -> None:
    network = experienced("emotion_net", SMALL, 48)
    facts = facts_of(network, "emotion_net", 48)
    bias = network.get_parameter("head.bias")
    bias.data[0] = number
    with pytest.raises(UsageError, match=r"head\.bias holds numbers that are not finite"):
        export_network(tmp_path / "w.onnx", network, facts)
    write_old(tmp_path / "w.safetensors", network, "emotion_net")
    with pytest.raises(UsageError, match=r"head\.bias holds numbers that are not finite"):
        load_network(tmp_path / "w.safetensors")


def write_old(path: Path, network: nn.Module, name: str, **changed: str) -> None:
    """A weights file as `train` wrote it before ONNX: its facts name no sizes."""
    state = {key: value.numpy() for key, value in sorted(network.state_dict().items())}
    sha = hashlib.sha256()
    for key, array in state.items():
        sha.update(json.dumps([key, str(array.dtype), list(array.shape)]).encode())
        sha.update(array.tobytes())
    facts = {
        "network": name,
        "classes": EMOTIONS,
        "input_size": 48,
        "normalisation": "per-face",
        "temperature": 0.68,
        "mirrored": False,
        "training_command": "python run_worker.py train",
        "validation_accuracy": 0.85,
    }
    metadata = {
        "format": "emotion-worker-1",
        "facts": json.dumps(facts),
        "sha256": sha.hexdigest(),
    }
    safetensors.numpy.save_file(state, path, metadata={**metadata, **changed})


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("emotion_net_small", {"channels": [32, 64, 128], "blocks": [1, 1, 1]}),  # as it was then
        ("emotion_net_wide", {"channels": [16, 24], "blocks": [1, 2], "stem_stride": 1}),
        ("custom_net", {}),
    ],
)
def test_a_file_of_the_time_before_onnx_becomes_a_new_one(
    name: str, sizes: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "w.safetensors", tmp_path / "w.onnx"
    network = experienced(name, sizes or None, 48)
    write_old(old, network, name)
    assert main(["export", str(old)]) == 0
    assert f"{new}: {name}" in capsys.readouterr().out
    again, facts = load_network(new)
    assert (facts.recipe, facts.temperature) == ("python run_worker.py train", 0.68)
    state = again.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert np.allclose(Classifier(new).classify(crops_for(48)).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"sha256": "0" * 64}, "is damaged"),
        ({"format": "another"}, "was not written by this project"),
    ],
)
def test_an_old_file_that_is_not_whole_is_refused(
    changed: dict[str, str], says: str, tmp_path: Path
) -> None:
    network = experienced("custom_net", None, 48)
    write_old(tmp_path / "w.safetensors", network, "custom_net", **changed)
    with pytest.raises(UsageError, match=says):
        load_network(tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"junk")
    with pytest.raises(UsageError, match="is not a readable safetensors file"):
        load_network(tmp_path / "w.safetensors")


def test_tensors_that_do_not_fit_the_network_are_refused(tmp_path: Path) -> None:
    write_old(tmp_path / "w.safetensors", experienced("custom_net", None, 48), "vgg_net")
    with pytest.raises(UsageError, match="do not fit the network vgg_net"):
        load_network(tmp_path / "w.safetensors")
