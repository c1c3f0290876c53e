"""Network architectures, by name. Weights and facts of a trained one live in its weights file."""

from collections.abc import Callable

from torch import nn

from worker.errors import UsageError
from worker.networks.custom_net import CustomNet
from worker.networks.emotion_net import EmotionNet, EmotionNetSmall
from worker.networks.vgg_net import VGGNet

NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "custom_net": CustomNet,
    "emotion_net": EmotionNet,
    "emotion_net_small": EmotionNetSmall,
    "vgg_net": VGGNet,
}


def build_network(name: str, classes: int) -> nn.Module:
    """A fresh, untrained network with ``classes`` outputs; ``.input_size`` is its side in pixels.

    Raises UsageError for an unknown name.
    """
    if name not in NETWORKS:
        raise UsageError(f"unknown network {name!r}; known: {', '.join(sorted(NETWORKS))}")
    return NETWORKS[name](classes)
