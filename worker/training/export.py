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
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryFile
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
from worker.errors import Stop, UsageError
from worker.files import replace_file
from worker.training.networks import build_network

FLAT = 1.0  # gray levels: a crop with less contrast than this holds no face; do not amplify noise
OLD_SUFFIX = ".safetensors"

Tensors = dict[str, NDArray[Any]]


def normalise(crops: Tensor) -> Tensor:
    """Crops in gray levels to the network's input, each face to zero mean and unit deviation.

    ``crops``: uint8 or float32 ``(n, side, side)``, 0..255. Result: float32 ``(n, 1, side, side)``.
    """
    faces = crops.float().unsqueeze(1)
    centered = faces - faces.mean(dim=(1, 2, 3), keepdim=True)
    variance = (centered * centered).mean(dim=(1, 2, 3), keepdim=True)
    return centered / variance.sqrt().clamp(min=FLAT)


class Exported(nn.Module):
    """What the file holds: crops uint8 ``(n, side, side)`` to probabilities ``(n, classes)``, and
    boxes ``(n, 3)`` if the network knows them.

    ``mirrored``: the network is asked about each face and its mirror image, for the mean of both
    logits and twice the arithmetic.
    """

    def __init__(self, network: nn.Module, mirrored: bool, temperature: float = 1.0) -> None:
        super().__init__()
        self.network, self.mirrored, self.temperature = network, mirrored, temperature
        self.boxes = getattr(network, "boxes", False)

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        logits, *boxes = self.look(crops)
        return torch.softmax(logits / self.temperature, dim=1), *boxes

    def look(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Float32 logits ``(n, classes)``, not divided by the temperature, and the boxes."""
        faces = normalise(crops)
        logits, *boxes = self.network.look(faces) if self.boxes else (self.network(faces),)  # type: ignore[operator]
        if self.mirrored:
            logits = (logits + self.network(faces.flip(3))) / 2
        return logits, *boxes


def expect_output(path: Path) -> None:
    """Say before the work, not after it, that a weights file cannot be written.

    Raises UsageError for a wrong name: a bare one would be looked for in weights/, and one in .png
    be written over by the learning curves. Stop if the folder takes no file.
    """
    if path.suffix != ".onnx" or path.is_dir():
        raise UsageError(f"--output {path}: name a file that ends in .onnx")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise Stop(f"--output {path}: cannot write there: {error.strerror}") from error


def export_network(path: Path, network: nn.Module, facts: Facts) -> None:
    """Write a network, on the CPU, and its facts to ``path``, replacing it in one step.

    Raises UsageError for a network with a number that is not finite, Stop when the disk refuses.
    """
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    _expect_finite(state, path)
    model = to_onnx(Exported(network, facts.mirrored, facts.temperature), facts.input_size)
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
    if path.suffix == OLD_SUFFIX:
        state, facts = _read_old(path)
    else:
        content, facts = read_weights(path)
        tensors = onnx.load_model_from_string(content).graph.initializer
        state = {each.name: onnx.numpy_helper.to_array(each) for each in tensors}
    _expect_finite(state, path)
    network = build_network(facts.network, len(facts.classes), facts.sizes)
    wanted = network.state_dict().keys() & state.keys()  # a graph has constants of its own, too
    try:
        network.load_state_dict({name: torch.from_numpy(state[name].copy()) for name in wanted})
    except RuntimeError as error:
        raise UsageError(
            f"{path}: its tensors do not fit the network {facts.network}: {error}"
        ) from error
    return network.eval(), facts


def to_onnx(exported: Exported, side: int) -> onnx.ModelProto:
    """The graph from crops uint8 ``(n, side, side)`` to probabilities; its tensors are named as in
    the state dict."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses a torchvision
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch's exporter about itself
        program = torch.onnx.export(
            exported.eval(),
            (torch.zeros(2, side, side, dtype=torch.uint8),),
            input_names=["crops"],
            output_names=["probabilities", "boxes"][: 1 + exported.boxes],
            dynamic_shapes={"crops": {0: torch.export.Dim("n")}},
            optimize=False,
            verbose=False,
        )
    assert program is not None
    fold_constants(program.model)
    remove_unused_nodes(program.model)
    ClearMetadataAndDocStringPass()(program.model)
    for name, tensor in list(program.model.graph.initializers.items()):
        tensor.name = name.removeprefix("network.")
    return onnx_ir.to_proto(program.model)


def _read_old(path: Path) -> tuple[Tensors, Facts]:
    """A file of the time before ONNX, whose SHA-256 is of its tensors and whose facts name no
    sizes."""
    sha = hashlib.sha256()
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} is not a readable safetensors file: {error}") from error
    for name, array in state.items():
        sha.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode())
        sha.update(array.tobytes())
    if metadata.get("sha256") != sha.hexdigest():
        raise UsageError(f"{path} is damaged, or was not written by this project's `train`")
    facts = json.loads(metadata["facts"])
    del facts["normalisation"]
    return state, Facts(recipe=facts.pop("training_command"), sizes=_sizes(state), **facts)


def _sizes(state: Tensors) -> dict[str, Any]:
    """What an old network was built with, read off its tensors; nothing for one outside
    emotion_net's family. Channels grow from stage to stage."""
    first = [len(each) for name, each in state.items() if name.endswith(".first.0.weight")]
    if not first:
        return {}
    stages = Counter(sorted(first))
    stride = 2 if state["features.0.0.weight"].shape[-1] == 5 else 1
    return {"channels": [*stages], "blocks": [*stages.values()], "stem_stride": stride}


def _expect_finite(state: Tensors, path: Path) -> None:
    wrong = [name for name, array in state.items() if not np.isfinite(array).all()]
    if wrong:
        raise UsageError(f"{path}: {wrong[0]} holds numbers that are not finite")
