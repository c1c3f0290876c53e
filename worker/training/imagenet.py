"""Convolutions that somebody trained on ImageNet, as the beginning of a VGG_net.

The file is a state dict of torchvision's VGG11 to VGG19, with batch norm or without (a pickle, read
as numbers only). Its first convolutions have the shapes of ours; how many
fit depends on the variant. The dense layers do not, and are left as they are.
"""

from pathlib import Path

import torch
from torch import nn

from worker.errors import UsageError


def adopt_convolutions(network: nn.Module, path: Path) -> int:
    """Copy the convolutions (and batch norms) of ``path`` into a network, as far as they fit.

    The first one is for three colours; its sum over them sees in a gray picture what the whole saw
    in the same picture in colour. Returns how many convolutions were taken. Raises UsageError for a
    file that is not readable, or none of whose convolutions fits.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        theirs = [name for name, tensor in state.items() if tensor.ndim == 4]
    except Exception as error:  # a pickle that is none, or holds something else, can fail anyhow
        raise UsageError(f"--init {path} is no readable state dict: {error}") from error
    layers = [each for each in network.modules() if isinstance(each, nn.Conv2d | nn.BatchNorm2d)]
    taken = 0
    for name, convolution, norm in zip(theirs, layers[::2], layers[1::2], strict=False):
        weight = state[name].sum(dim=1, keepdim=True) if taken == 0 else state[name]
        if weight.shape != convolution.weight.shape:
            break
        convolution.load_state_dict({"weight": weight})
        group, number, _ = name.split(".")
        after = f"{group}.{int(number) + 1}."
        learned = {key.removeprefix(after): state[key] for key in state if key.startswith(after)}
        if learned:  # ours have no bias: what theirs added goes into the mean
            learned["running_mean"] = learned["running_mean"] - state[f"{group}.{number}.bias"]
            norm.load_state_dict(learned)
        taken += 1
    if not taken:
        raise UsageError(f"--init {path}: none of its convolutions has the shape of this network's")
    return taken
