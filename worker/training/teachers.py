"""What a pupil learns beside the votes: the mean opinion of trained networks (Hinton et al. 2015).

Asking them in every epoch costs more than the pupil itself: `worker.training.views` keeps answers.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from worker.errors import UsageError
from worker.training.export import load_network, normalise

SHARE = 0.7  # of what is learned; the votes have the rest


class Teachers:
    """Networks that were trained before, all of the same classes, each with its own side.

    Raises UsageError for a weights file that cannot be used or knows other ``classes``.
    """

    def __init__(
        self,
        weights: Sequence[Path],
        classes: tuple[str, ...],
        device: torch.device,
        bfloat16: bool = False,
    ) -> None:
        self.classes, self.device, self._bfloat16 = classes, device, bfloat16
        self._networks = []
        digest = hashlib.sha256()
        for path in weights:
            network, facts = load_network(path)
            if facts.classes != classes:
                raise UsageError(f"--teacher {path} knows other classes")
            network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._networks.append((network, facts.input_size))
            digest.update(path.read_bytes())
        self.digest = digest.hexdigest()

    @torch.no_grad()
    def opinion(self, faces: Tensor) -> Tensor:
        """Mean probabilities float32 ``(n, classes)`` of faces float32 ``(n, 1, side, side)`` in
        gray levels. At temperature 1: on training faces a calibrated teacher would be too sure."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16):
            logits = [network(as_seen(faces, side)) for network, side in self._networks]
        return torch.stack([each.float().softmax(dim=1) for each in logits]).mean(dim=0)


def lesson_of(opinion: Tensor, votes: Tensor) -> Tensor:
    """What a pupil is to learn: probabilities ``(n, classes)`` of teachers mixed with the votes."""
    return torch.lerp(votes, opinion, SHARE)


def as_seen(faces: Tensor, side: int) -> Tensor:
    """Faces float32 ``(n, 1, any, any)`` as a network for this side is shown them."""
    if faces.shape[-1] != side:
        faces = functional.interpolate(faces, size=(side, side), mode="bilinear", antialias=True)
    return normalise(faces.squeeze(1)).contiguous(memory_format=torch.channels_last)
