"""Network architectures, by name. Weights and facts of a trained one live in its weights file."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from torch import nn

from worker.errors import UsageError
from worker.record import EMOTIONS, FACE_CLASSES
from worker.training.networks.custom_net import CustomNet
from worker.training.networks.emotion_net import BEFORE_SIZES, MEMBERS, EmotionNet, Sizes
from worker.training.networks.vgg_net import VGGNet

FACE_NET = "face_net"  # the detector's second stage: is a window a face at all?
FACE_NET_SIDE = 32
NETWORKS = ("custom_net", *MEMBERS, "vgg_net")


def build_network(name: str, classes: int, sizes: Mapping[str, Any] | None = None) -> nn.Module:
    """A fresh, untrained network with ``classes`` outputs; ``.input_size`` is its side in pixels.

    ``sizes``: of a member of emotion_net's family, as in `Sizes`; empty: what a file means that
    states none; None: what `train` makes today.

    Raises UsageError for an unknown name, or sizes that the network cannot have.
    """
    if name not in NETWORKS:
        raise UsageError(f"unknown network {name!r}; known: {', '.join(sorted(NETWORKS))}")
    if name in MEMBERS:
        member = (MEMBERS if sizes is None else BEFORE_SIZES)[name]
        side = FACE_NET_SIDE if name == FACE_NET else 48
        return EmotionNet(classes, _checked(name, sizes) if sizes else member, side)
    if sizes:
        raise UsageError(f"{name} has no sizes to choose")
    return VGGNet(classes) if name == "vgg_net" else CustomNet(classes)


def sizes_of(network: nn.Module) -> dict[str, Any]:
    """The sizes that build this network again; of one outside emotion_net's family: none."""
    return network.sizes.model_dump(mode="json") if isinstance(network, EmotionNet) else {}


def classes_of(name: str) -> tuple[str, ...]:
    """What a network of this name tells apart."""
    return FACE_CLASSES if name == FACE_NET else EMOTIONS


def _checked(name: str, sizes: Mapping[str, Any]) -> Sizes:
    try:
        return Sizes.model_validate(sizes)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"sizes of {name}: {where or 'together'}: {message}") from error
