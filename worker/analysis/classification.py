"""Which emotion a face shows: a trained network, loaded once, for any number of crops at a time."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from worker.analysis.cropping import Picture, normalise
from worker.analysis.weights_file import Facts, read_weights
from worker.errors import UsageError
from worker.training.networks import build_network

BATCH = 32  # faces: bounds the memory that one picture of a crowd can take

_TRACING = threading.Lock()  # torch's tracer is not made for two threads at once


def load_network(weights: Path) -> tuple[nn.Module, Facts]:
    """The trained network of a weights file, ready to be asked, and what the file says of itself.

    Raises UsageError where the file is missing, damaged or does not fit its network.
    """
    state, facts = read_weights(weights)
    network = build_network(facts.network, len(facts.classes), {})
    try:
        network.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    except RuntimeError as error:
        raise UsageError(
            f"{weights}: its tensors do not fit the network {facts.network}: {error}"
        ) from error
    return network.eval().requires_grad_(requires_grad=False), facts


class WithMirror(nn.Module):
    """A network asked about each face and its mirror image: the mean of both logits, for twice the
    arithmetic."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, faces: Tensor) -> Tensor:
        both: Tensor = self.network(torch.cat([faces, faces.flip(3)]))
        logits, mirrored = both.chunk(2)
        return (logits + mirrored) / 2


class Classifier:
    """A network with its weights, giving calibrated probabilities.

    ``classes``: the names that probabilities are given for, in order. ``input_size``: side of the
    crops that it wants, in pixels. ``facts``: what its weights file says of itself.
    ``parameters``: how many numbers were trained.

    Raises UsageError where the weights file is missing, damaged or does not fit its network, or
    where ``classes`` names one that the network does not know.
    """

    def __init__(self, weights: Path, classes: Sequence[str] = ()) -> None:
        network, self.facts = load_network(weights)
        self.input_size = self.facts.input_size
        unknown = [name for name in classes if name not in self.facts.classes]
        if unknown:
            raise UsageError(
                f"[classification] classes: {weights} does not know {', '.join(unknown)}; "
                f"it knows {', '.join(self.facts.classes)}"
            )
        self.classes = tuple(classes) or self.facts.classes
        self._columns = [self.facts.classes.index(name) for name in self.classes]
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        asked = WithMirror(network).eval() if self.facts.mirrored else network
        self._network = _compile(asked, self.input_size)

    def classify(self, crops: Sequence[Picture] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities float32 ``(n, classes)`` of crops uint8 ``(n, side, side)``; n may be 0.

        Logits are divided by the temperature before the softmax (Guo et al. 2017); with a subset of
        the classes, the probabilities are shared among those only.
        """
        if len(crops) == 0:
            return np.empty((0, len(self.classes)), np.float32)
        batches, start = [], 0
        with torch.inference_mode():
            while left := len(crops) - start:
                # Powers of two: each size that is new costs as much as several faces.
                size = min(BATCH, 1 << (left.bit_length() - 1))
                faces = torch.from_numpy(np.stack(list(crops[start : start + size])))
                start += size
                pictures = normalise(faces).contiguous(memory_format=torch.channels_last)
                logits = self._network(pictures)[:, self._columns]
                batches.append(torch.softmax(logits / self.facts.temperature, dim=1))
        return torch.cat(batches).numpy()


def _compile(network: nn.Module, side: int) -> torch.jit.ScriptModule:
    """The network as one static graph: batch norm folded into the convolutions, channels last.

    Of what torch offers without a compiler on the user's machine this is the fastest: emotion_net
    2.5 ms a face instead of 4.0, Custom_net 5.5 instead of 8.7 (in turn, one thread).
    """
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    example = torch.zeros(2, 1, side, side).contiguous(memory_format=torch.channels_last)
    with _TRACING, torch.inference_mode():
        traced = torch.jit.trace(network, example, check_trace=False)
        graph: torch.jit.ScriptModule = torch.jit.freeze(traced)
    return graph
