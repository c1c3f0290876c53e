"""Network architectures, by name. Weights and facts of a trained one live in its weights file."""

from dataclasses import asdict
from typing import Any

from torch import nn

from worker.errors import UsageError
from worker.record import EMOTIONS, FACE_CLASSES
from worker.training.networks.emotion_net import MEMBERS, EmotionNet, Sizes
from worker.training.networks.plain import CustomNet, VGGNet

FACE_NET = "face_net"  # the detector's second stage: is a window a face at all?
OTHERS = {"custom_net": CustomNet, "vgg_net": VGGNet}  # than the family of emotion_net
NETWORKS = (*OTHERS, *MEMBERS)


def build_network(name: str, classes: int, sizes: dict[str, Any] | None = None) -> nn.Module:
    """A fresh, untrained network with ``classes`` outputs; ``.input_size`` is its side in pixels.

    ``sizes``: of a member of emotion_net's family, as in `Sizes`, if they are not its usual ones.

    Raises UsageError for an unknown name, or sizes that the network cannot have.
    """
    if name not in NETWORKS:
        raise UsageError(f"unknown network {name!r}; known: {', '.join(sorted(NETWORKS))}")
    if name in MEMBERS:
        try:
            chosen = Sizes(**sizes) if sizes else MEMBERS[name]
        except (TypeError, ValueError) as error:
            known = vars(MEMBERS[name])
            unknown = [f"there is no {key!r}; " for key in sizes or () if key not in known]
            why = [f"{error}; "] if isinstance(error, ValueError) else unknown
            raise UsageError(
                f"sizes of {name} (train --sizes): {''.join(why)}give such as "
                f"channels=16,48,128 blocks=1,1,1; known: {', '.join(known)}"
            ) from error
        return EmotionNet(classes, chosen, 32 if name == FACE_NET else 48, name == FACE_NET)
    if sizes:
        raise UsageError(f"{name} has no sizes to choose (train --sizes)")
    return OTHERS[name](classes)


def sizes_of(network: nn.Module) -> dict[str, Any]:
    """The sizes that build this network again; of one outside emotion_net's family: none."""
    return asdict(network.sizes) if isinstance(network, EmotionNet) else {}


def classes_of(name: str) -> tuple[str, ...]:
    """What a network of this name tells apart."""
    return FACE_CLASSES if name == FACE_NET else EMOTIONS
