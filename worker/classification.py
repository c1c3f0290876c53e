"""Which emotion a face shows: a trained network, loaded once, for any number of crops at a time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from worker.errors import UsageError
from worker.networks import build_network
from worker.preprocessing import Picture, normalise
from worker.weights_file import read_weights

BATCH = 64  # faces: bounds the memory that one picture of a crowd can take


class Classifier:
    """A network with its weights, giving calibrated probabilities.

    ``classes``: the names that probabilities are given for, in order. ``input_size``: side of the
    crops that it wants, in pixels. ``facts``: what its weights file says of itself.
    ``parameters``: how many numbers were trained.

    Raises UsageError where the weights file is missing, damaged or does not fit its network, or
    where ``classes`` names one that the network does not know.
    """

    def __init__(self, weights: Path, classes: Sequence[str] = ()) -> None:
        state, self.facts = read_weights(weights)
        self.input_size = self.facts.input_size
        unknown = [name for name in classes if name not in self.facts.classes]
        if unknown:
            raise UsageError(
                f"[classification] classes: {weights} does not know {', '.join(unknown)}; "
                f"it knows {', '.join(self.facts.classes)}"
            )
        self.classes = tuple(classes) or self.facts.classes
        self._columns = [self.facts.classes.index(name) for name in self.classes]
        self._network = build_network(self.facts.network, len(self.facts.classes))
        try:
            self._network.load_state_dict({name: torch.from_numpy(a) for name, a in state.items()})
        except RuntimeError as error:
            raise UsageError(
                f"{weights}: its tensors do not fit the network {self.facts.network}: {error}"
            ) from error
        self._network.eval().requires_grad_(requires_grad=False)
        self.parameters = sum(parameter.numel() for parameter in self._network.parameters())

    def classify(self, crops: Sequence[Picture] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities float32 ``(n, classes)`` of crops uint8 ``(n, side, side)``; n may be 0.

        Logits are divided by the temperature before the softmax (Guo et al. 2017); with a subset of
        the classes, the probabilities are shared among those only.
        """
        if len(crops) == 0:
            return np.empty((0, len(self.classes)), np.float32)
        batches = []
        with torch.inference_mode():
            for start in range(0, len(crops), BATCH):
                faces = torch.from_numpy(np.stack(list(crops[start : start + BATCH])))
                logits = self._network(normalise(faces))[:, self._columns]
                batches.append(torch.softmax(logits / self.facts.temperature, dim=1))
        return torch.cat(batches).numpy()
