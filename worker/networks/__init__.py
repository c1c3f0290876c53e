"""Network architectures, by name. Weights and facts of a trained one live in its weights file."""

from torch import nn

from worker.errors import UsageError
from worker.networks.custom_net import CustomNet

NETWORKS = {"custom_net": CustomNet}


def build_network(name: str, classes: int) -> nn.Module:
    """A fresh, untrained network with ``classes`` outputs; ``.input_size`` is its side in pixels.

    Raises UsageError for an unknown name.
    """
    if name not in NETWORKS:
        raise UsageError(f"unknown network {name!r}; known: {', '.join(sorted(NETWORKS))}")
    return NETWORKS[name](classes)
