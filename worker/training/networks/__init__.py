"""Network architectures, by name. Weights and facts of a trained one live in its weights file."""

from collections.abc import Callable

from torch import nn

from worker.errors import UsageError
from worker.record import EMOTIONS, FACE_CLASSES
from worker.training.networks.custom_net import CustomNet
from worker.training.networks.emotion_net import EmotionNet, EmotionNetSmall
from worker.training.networks.face_net import FaceNet
from worker.training.networks.vgg_net import VGGNet

NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "custom_net": CustomNet,
    "emotion_net": EmotionNet,
    "emotion_net_small": EmotionNetSmall,
    "face_net": FaceNet,
    "vgg_net": VGGNet,
}


def build_network(name: str, classes: int) -> nn.Module:
    """A fresh, untrained network with ``classes`` outputs; ``.input_size`` is its side in pixels.

    Raises UsageError for an unknown name.
    """
    if name not in NETWORKS:
        raise UsageError(f"unknown network {name!r}; known: {', '.join(sorted(NETWORKS))}")
    return NETWORKS[name](classes)


def classes_of(name: str) -> tuple[str, ...]:
    """What a network of this name tells apart."""
    return FACE_CLASSES if name == "face_net" else EMOTIONS
