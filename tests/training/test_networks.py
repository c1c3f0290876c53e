"""Every network as it is built: its size, its sizes, and what it refuses."""

import pytest
import torch

from worker.errors import UsageError
from worker.training.networks import NETWORKS, build_network, sizes_of
from worker.training.networks.emotion_net import EmotionNet

PARAMETERS = {
    "custom_net": 1_642_432,
    "emotion_net": 1_057_544,
    "emotion_net_small": 265_240,
    "vgg_net": 8_758_000,
}
SMALL = {"channels": [8, 16], "blocks": [1, 2]}


@pytest.mark.parametrize(
    ("sizes", "parameters", "maps"),
    [
        ({}, 10_077, (16, 12, 12)),
        ({"attention": False}, 9_888, (16, 12, 12)),
        ({"stem_stride": 1}, 9_949, (16, 24, 24)),
        ({"stem": 8}, 10_077, (16, 6, 6)),
        ({"shortcut": "convolution"}, 10_461, (16, 12, 12)),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_a_member_of_the_family_has_the_sizes_that_were_asked_for(
    sizes: dict[str, object], parameters: int, maps: tuple[int, int, int]
) -> None:
    network = build_network("emotion_net", 8, {**SMALL, **sizes}).eval()
    assert isinstance(network, EmotionNet)
    faces = torch.zeros(2, 1, 48, 48)
    assert network(faces).shape == (2, 8)
    assert network.features(faces).shape == (2, *maps)
    assert sum(each.numel() for each in network.parameters()) == parameters


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_network_has_the_parameters_that_the_model_card_states(name: str) -> None:
    network = build_network(name, 8)
    count = sum(each.numel() for each in network.parameters())
    assert count == pytest.approx(PARAMETERS[name], rel=0.01)


def test_the_sizes_of_a_network_build_it_again() -> None:
    for name in NETWORKS:
        network = build_network(name, 8)
        again = build_network(name, 8, sizes_of(network))
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        assert {key: value.shape for key, value in again.state_dict().items()} == shapes


@pytest.mark.parametrize(
    ("name", "sizes", "says"),
    [
        ("emotion_net", {"channels": [8], "blocks": [1, 2]}, "one number for each stage"),
        ("emotion_net", {"channels": [4], "blocks": [1]}, "channels must be 8 or more"),
        (
            "emotion_net",
            {**SMALL, "shortcut": "none"},
            r"sizes of emotion_net \(train --sizes\): shortcut must be pooled or",
        ),
        (
            "emotion_net",
            {**SMALL, "depth": 3},
            "there is no .depth.; give such as .*; known: channels",
        ),
        ("emotion_net", {**SMALL, "channels": 16}, "give such as channels=16,48,128 blocks=1,1,1"),
        ("emotion_net", {**SMALL, "channels": ["a", "b"]}, "must be whole numbers up to 4096"),
        ("emotion_net", {**SMALL, "channels": "ab"}, "must be whole numbers up to 4096"),
        ("emotion_net", {**SMALL, "blocks": [1, 10**9]}, "must be whole numbers up to 4096"),
        ("emotion_net", {**SMALL, "stem": -1}, "must be whole numbers up to 4096"),
        ("emotion_net", {**SMALL, "attention": "none"}, "attention yes or no"),
        ("custom_net", SMALL, "custom_net has no sizes to choose"),
    ],
)
def test_sizes_that_a_network_cannot_have_are_refused(
    name: str, sizes: dict[str, object], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        build_network(name, 8, sizes)


def test_an_unknown_network_is_named_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="unknown network 'deep_net'; known: custom_net, emotion"):
        build_network("deep_net", 8)
