"""Convolutions that somebody trained on ImageNet, as the beginning of a VGG_net.

The file is a state dict of torchvision's VGG11 to VGG19, with batch norm or without (a pickle, read
as numbers only). Its first convolutions have the shapes of ours; how many
fit depends on the variant. The dense layers do not, and are left as they are.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from worker.errors import UsageError


def adopt_convolutions(network: nn.Module, path: Path) -> int:
    """Copy the convolutions (and batch norms) of ``path`` into a network, as far as they fit.

    The first one is for three colours; its sum over them sees in a gray picture what the whole saw
    in the same picture in colour. Returns how many convolutions were taken. Raises UsageError for a
    file that is not readable, or none of whose convolutions fits.
    """
    state = _read(path)
    theirs = [name.removesuffix(".weight") for name, tensor in state.items() if tensor.ndim == 4]
    layers = [each for each in network.modules() if isinstance(each, nn.Conv2d | nn.BatchNorm2d)]
    taken = 0
    for name, convolution, norm in zip(theirs, layers[::2], layers[1::2], strict=False):
        weight = state[f"{name}.weight"]
        if taken == 0:
            weight = weight.sum(dim=1, keepdim=True)
        if weight.shape != convolution.weight.shape:
            break
        convolution.load_state_dict({"weight": weight})
        _adopt_norm(norm, state, name)
        taken += 1
    if not taken:
        raise UsageError(f"--init {path}: none of its convolutions has the shape of this network's")
    return taken


def _adopt_norm(norm: nn.Module, state: dict[str, Tensor], convolution: str) -> None:
    """The batch norm after a convolution, which has no bias here: it goes into the mean."""
    prefix, number = convolution.rsplit(".", 1)
    own = f"{prefix}.{int(number) + 1}"
    if f"{own}.running_mean" not in state:
        return
    copied = {key: state[f"{own}.{key}"] for key in ("weight", "bias", "running_var")}
    bias = state.get(f"{convolution}.bias", torch.zeros(()))
    mean = state[f"{own}.running_mean"] - bias
    norm.load_state_dict({**norm.state_dict(), **copied, "running_mean": mean})


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a pickle that is none can fail in any way
        raise UsageError(f"--init {path} is no readable file of weights: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UsageError(f"--init {path} is no state dict (tensors by name)")
    return state
