"""A trained network as a file and back: nothing is lost, and both engines agree."""

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import safetensors.numpy
import torch
from torch import nn

from tests.photographs import ASTRONAUT_FACE, HOPPER_FACE, picture
from worker.analysis.classification import Classifier
from worker.analysis.cropping import crop_face
from worker.analysis.face_net import FaceNet
from worker.analysis.weights_file import Facts, read_weights
from worker.cli import main
from worker.config import PROJECT
from worker.errors import UsageError
from worker.record import EMOTIONS, Box
from worker.training.export import Exported, export_network, load_network, normalise
from worker.training.networks import build_network, sizes_of

SMALL = {"channels": [8, 16], "blocks": [1, 2]}
BEFORE = {"channels": [32, 64, 128], "blocks": [1, 1, 1]}  # emotion_net_small then


def experienced(name: str, sizes: dict[str, Any] | None, side: int) -> nn.Module:
    """A made-up network whose batch norms have seen something."""
    torch.manual_seed(1)
    network = build_network(name, len(EMOTIONS), sizes)
    with torch.no_grad():
        for _ in range(2):
            network.train()(torch.randn(4, 1, side, side))
    if name == "face_net":
        # From zero it would prove nothing.
        nn.init.normal_(dict(network.named_parameters())["box_head.weight"])
    return network.eval()


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


def assert_same(path: Path, network: nn.Module, facts: Facts, crops: np.ndarray) -> np.ndarray:
    """The probabilities that both engines give, and the boxes if there are any, are the same."""
    with torch.inference_mode():
        exported = Exported(network, facts.mirrored, facts.temperature).eval()
        expected = [each.numpy() for each in exported(torch.from_numpy(crops))]
    given = (FaceNet if facts.network == "face_net" else Classifier)(path).ask(crops)
    for got, wanted in zip(given, expected, strict=True):
        assert np.abs(got - wanted).max() < 1e-5
    return given[0]


@pytest.mark.parametrize(
    ("name", "sizes", "side", "mirrored"),
    [
        ("emotion_net", SMALL, 48, True),
        (
            "face_net",
            {**SMALL, "stem": 8, "attention": False, "shortcut": "convolution"},
            32,
            False,
        ),
        ("custom_net", None, 48, False),
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
    assert_same(tmp_path / "w.onnx", network, facts, crops)
    # And batch norm is unfolded, and nothing of this machine is in the file
    content, _ = read_weights(tmp_path / "w.onnx")
    operators = [node.op_type for node in onnx.load_model_from_string(content).graph.node]
    norms = sum(isinstance(each, nn.BatchNorm2d) for each in network.modules())
    assert operators.count("BatchNormalization") == norms * (2 if mirrored else 1)
    for word in (str(PROJECT), "site-packages", str(tmp_path)):
        assert word.encode() not in content


@pytest.mark.parametrize("path", sorted((PROJECT / "weights").glob("*.onnx")), ids=lambda p: p.stem)
def test_a_shipped_network_gives_in_torch_what_it_gives_in_onnx_runtime(path: Path) -> None:
    network, facts = load_network(path)
    crops = np.array(
        [
            crop_face(picture(name, color=False), box, facts.input_size)
            for name, box in (
                ("astronaut.jpg", ASTRONAUT_FACE),
                ("grace_hopper.jpg", HOPPER_FACE),
                ("coffee.jpg", Box(100, 100, 200, 200)),
            )
        ]
    )
    probabilities = assert_same(path, network, facts, crops)
    assert np.ptp(probabilities, axis=0).max() > 0.1  # the pictures are told apart at all


def test_a_mirrored_network_is_asked_about_both_sides_of_a_face() -> None:
    network = experienced("emotion_net", SMALL, 48)
    crops = torch.from_numpy(crops_for(48))
    plain, mean = (Exported(network, mirrored).eval() for mirrored in (False, True))
    with torch.inference_mode():
        [one], [other] = plain(crops), plain(crops.flip(2))
        [both], [back] = mean(crops), mean(crops.flip(2))
        assert torch.allclose(both, back, atol=1e-5)
        assert not torch.allclose(one, other, atol=1e-3)
        # The mean of logits is the geometric mean of probabilities, made to add up to 1 again.
        expected = (one * other).sqrt()
        assert torch.allclose(both, expected / expected.sum(1, keepdim=True), atol=1e-4)


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
        ("emotion_net_small", BEFORE),
        ("emotion_net_wide", {"channels": [16, 24], "blocks": [1, 2], "stem_stride": 1}),
        ("custom_net", {}),
    ],
)
def test_a_file_of_the_time_before_onnx_is_read(
    name: str, sizes: dict[str, Any], tmp_path: Path
) -> None:
    network = experienced(name, sizes, 48)
    write_old(tmp_path / "w.safetensors", network, name)
    again, facts = load_network(tmp_path / "w.safetensors")
    assert (facts.recipe, facts.temperature) == ("python run_worker.py train", 0.68)
    state = again.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_the_command_turns_such_a_file_into_one_that_the_worker_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "w.safetensors", tmp_path / "w.onnx"
    network = experienced("emotion_net_small", BEFORE, 48)
    write_old(old, network, "emotion_net_small")
    data = tmp_path / "FER2013Train"
    data.mkdir()
    for number, votes in enumerate(("10,0", "10,0", "10,0", "0,10")):
        cv2.imwrite(str(data / f"{number}.png"), crops_for(48)[number])
        with (data / "label.csv").open("a") as table:
            table.write(f'{number}.png,"(0, 0, 48, 48)",{votes},0,0,0,0,0,0,0,0\n')
    assert main(["export", str(old), "--data", str(tmp_path)]) == 0
    assert f"{new}: emotion_net_small" in capsys.readouterr().out
    _, facts = load_network(new)
    assert facts.class_shares is not None
    assert (facts.class_shares["neutral"], facts.class_shares["happiness"]) == (0.75, 0.25)
    crops = crops_for(48)
    assert_same(new, network, facts, crops)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"sha256": "0" * 64}, "is damaged"),
        ({"sha256": ""}, "was not written by this project"),
    ],
)
def test_an_old_file_that_is_not_whole_is_refused(
    changed: dict[str, str], says: str, tmp_path: Path
) -> None:
    network = experienced("emotion_net", SMALL, 48)
    write_old(tmp_path / "w.safetensors", network, "emotion_net", **changed)
    with pytest.raises(UsageError, match=says):
        load_network(tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"junk")
    with pytest.raises(UsageError, match="is not a readable safetensors file"):
        load_network(tmp_path / "w.safetensors")


def test_tensors_that_do_not_fit_the_network_are_refused(tmp_path: Path) -> None:
    write_old(tmp_path / "w.safetensors", experienced("custom_net", None, 48), "vgg_net")
    with pytest.raises(UsageError, match="do not fit the network vgg_net"):
        load_network(tmp_path / "w.safetensors")
