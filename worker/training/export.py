"""A trained network as the one file that the worker runs, and back into torch.

    network and facts  --export_network-->  NAME.onnx  --load_network-->  network and facts

The graph begins with gray crops and ends with calibrated probabilities, so that nobody can feed it
wrongly. Its tensors keep the names of the state dict, and batch norm stays unfolded (ONNX Runtime
folds it when it loads), so that a training can go on from the file. Files of the time before ONNX
(safetensors) are read as well.
"""

import hashlib
import json
import logging
import warnings
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import torch
from numpy.typing import NDArray
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from onnxscript.optimizer import fold_constants, remove_unused_nodes
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from worker.analysis.weights_file import FORMAT, NO_DIGEST, Facts, digest, read_weights
from worker.errors import UsageError
from worker.files import replace_file
from worker.training.networks import build_network

FLAT = 1.0  # gray levels: a crop with less contrast than this holds no face; do not amplify noise
OLD_FORMAT, OLD_SUFFIX = "emotion-worker-1", ".safetensors"
FIRST_BLOCK = "features.2.first.0.weight"  # of every member of emotion_net's family

Tensors = dict[str, NDArray[Any]]


def normalise(crops: Tensor) -> Tensor:
    """Crops in gray levels to the network's input, each face to zero mean and unit deviation.

    ``crops``: uint8 or float32 ``(n, side, side)``, 0..255. Result: float32 ``(n, 1, side, side)``.
    """
    faces = crops.float().unsqueeze(1)
    centered = faces - faces.mean(dim=(1, 2, 3), keepdim=True)
    variance = (centered * centered).mean(dim=(1, 2, 3), keepdim=True)
    return centered / variance.sqrt().clamp(min=FLAT)


class WithMirror(nn.Module):
    """A network asked about each face and its mirror image: the mean of both logits, for twice the
    arithmetic."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, faces: Tensor) -> Tensor:
        logits, mirrored = self.network(faces), self.network(faces.flip(3))
        return (logits + mirrored) / 2  # type: ignore[no-any-return]


class Exported(nn.Module):
    """What the file holds: crops uint8 ``(n, side, side)`` to probabilities ``(n, classes)``."""

    def __init__(self, network: nn.Module, facts: Facts) -> None:
        super().__init__()
        self.network, self.temperature = network, facts.temperature
        self.mirrored = facts.mirrored

    def forward(self, crops: Tensor) -> Tensor:
        ask = WithMirror(self.network) if self.mirrored else self.network
        return torch.softmax(ask(normalise(crops)) / self.temperature, dim=1)


def export_network(path: Path, network: nn.Module, facts: Facts) -> None:
    """Write a network, on the CPU, and its facts to ``path``, replacing it in one step.

    Raises UsageError for a network with a number that is not finite, Stop when the disk refuses.
    """
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    _expect_finite(state, path)
    model = _to_onnx(Exported(network, facts).eval(), facts.input_size)
    # What the graph does not use, such as the count of batches that a norm has seen, or what was
    # folded into something else.
    there = {tensor.name for tensor in model.graph.initializer}
    for name in sorted(state.keys() - there):
        model.graph.initializer.append(onnx.numpy_helper.from_array(state[name], name))
    facts = replace(facts, parameters=sum(each.numel() for each in network.parameters()))
    metadata = {"format": FORMAT, "facts": json.dumps(asdict(facts)), "sha256": NO_DIGEST}
    onnx.helper.set_model_props(model, metadata)
    metadata["sha256"] = digest(model.SerializeToString(), NO_DIGEST)
    onnx.helper.set_model_props(model, metadata)
    replace_file(path, model.SerializeToString())


def load_network(path: Path) -> tuple[nn.Module, Facts]:
    """The trained network of a weights file, in evaluation mode on the CPU, and its facts.

    Raises UsageError when the file is missing or damaged, does not fit its network, or holds a
    number that is not finite.
    """
    state, facts = _read_old(path) if path.suffix == OLD_SUFFIX else _read(path)
    _expect_finite(state, path)
    network = build_network(facts.network, len(facts.classes), facts.sizes)
    wanted = network.state_dict().keys() & state.keys()  # a graph has constants of its own, too
    try:
        network.load_state_dict({name: torch.from_numpy(state[name].copy()) for name in wanted})
    except RuntimeError as error:
        raise UsageError(
            f"{path}: its tensors do not fit the network {facts.network}: {error}"
        ) from error
    return network.eval().requires_grad_(requires_grad=False), facts


def _to_onnx(exported: Exported, side: int) -> onnx.ModelProto:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses a torchvision
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch's exporter about itself
        program = torch.onnx.export(
            exported,
            (torch.zeros(2, side, side, dtype=torch.uint8),),
            input_names=["crops"],
            output_names=["probabilities"],
            dynamic_shapes={"crops": {0: torch.export.Dim("n")}},
            optimize=False,
            verbose=False,
        )
    assert program is not None
    fold_constants(program.model)
    remove_unused_nodes(program.model)
    ClearMetadataAndDocStringPass()(program.model)
    model = onnx_ir.to_proto(program.model)
    for tensor in model.graph.initializer:
        tensor.name = tensor.name.removeprefix("network.")
    for node in model.graph.node:
        node.input[:] = [name.removeprefix("network.") for name in node.input]
    return model


def _read(path: Path) -> tuple[Tensors, Facts]:
    content, facts = read_weights(path)
    tensors = onnx.load_model_from_string(content).graph.initializer
    return {each.name: onnx.numpy_helper.to_array(each) for each in tensors}, facts


def _read_old(path: Path) -> tuple[Tensors, Facts]:
    """A file of the time before ONNX. Its facts name no sizes: those are read off the tensors."""
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} is not a readable safetensors file: {error}") from error
    if metadata.get("format") != OLD_FORMAT or metadata.get("sha256") != _old_digest(state):
        raise UsageError(f"{path} is damaged, or was not written by this project's `train`")
    stated = json.loads(metadata["facts"])
    del stated["normalisation"]
    stated["recipe"] = stated.pop("training_command")
    if FIRST_BLOCK in state:
        stated["sizes"] = _sizes(state)
    return state, Facts(**stated)


def _old_digest(state: Tensors) -> str:
    sha = hashlib.sha256()
    for name, array in state.items():
        sha.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def _sizes(state: Tensors) -> dict[str, Any]:
    """The sizes of a member of emotion_net's family, from the shapes of its convolutions."""
    blocks = (n for n in range(2, len(state)) if f"features.{n}.first.0.weight" in state)
    widths = [len(state[f"features.{number}.first.0.weight"]) for number in blocks]
    stages = [(width, len(list(same))) for width, same in groupby(widths)]
    return {
        "channels": [width for width, _ in stages],
        "blocks": [count for _, count in stages],
        "stem_stride": 2 if state["features.0.0.weight"].shape[-1] == 5 else 1,
    }


def _expect_finite(state: Tensors, path: Path) -> None:
    wrong = [name for name, array in state.items() if not np.isfinite(array).all()]
    if wrong:
        raise UsageError(f"{path}: {wrong[0]} holds numbers that are not finite")
