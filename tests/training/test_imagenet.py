"""Beginning VGG_net with convolutions from elsewhere: made-up weights of torchvision's shapes."""

from pathlib import Path

import pytest
import torch
from torch import nn

from worker.training.imagenet import adopt_convolutions
from worker.training.networks import build_network

# As far as the first convolution that is not taken.
VGG13 = (64, 64, "M", 128, 128, "M", 256, 256, "M", 512)
VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512)


def torchvision_features(layout: tuple[int | str, ...], batch_norm: bool) -> nn.Sequential:
    """The convolutional part of torchvision's VGG, as its `make_layers` numbers it."""
    layers: list[nn.Module] = []
    width = 3
    for channels in layout:
        if isinstance(channels, str):
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(nn.Conv2d(width, channels, 3, padding=1))
        layers += [nn.BatchNorm2d(channels)] if batch_norm else []
        layers.append(nn.ReLU())
        width = channels
    return nn.Sequential(*layers)


def with_experience(features: nn.Sequential) -> nn.Sequential:
    """The same, with batch norms that are not as they were made."""
    random = torch.Generator().manual_seed(0)
    for name, tensor in features.state_dict().items():
        if "running" in name or ("weight" in name and tensor.ndim == 1):
            tensor.uniform_(0.5, 1.5, generator=random)
    return features.eval()


@pytest.mark.parametrize(("layout", "taken"), [(VGG13, 6), (VGG16, 7)])
def test_a_gray_face_is_seen_as_the_colour_network_saw_it(
    layout: tuple[int | str, ...], taken: int, tmp_path: Path
) -> None:
    theirs = with_experience(torchvision_features(layout, batch_norm=True))
    state = {f"features.{name}": tensor for name, tensor in theirs.state_dict().items()}
    torch.save({**state, "classifier.0.weight": torch.zeros(2, 25088)}, tmp_path / "w.pth")
    network = build_network("vgg_net", 8).eval()
    assert adopt_convolutions(network, tmp_path / "w.pth") == taken
    assert isinstance(network.features, nn.Sequential)
    gray = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    first_group = 7  # two convolutions with norm and ReLU, and the pooling
    with torch.inference_mode():
        expected = theirs[:first_group](gray.repeat(1, 3, 1, 1))
        assert torch.allclose(network.features[:first_group](gray), expected, atol=1e-4)


def test_weights_without_batch_norm_bring_their_convolutions_only(tmp_path: Path) -> None:
    theirs = torchvision_features(VGG13, batch_norm=False)
    torch.save(
        {f"features.{name}": tensor for name, tensor in theirs.state_dict().items()},
        tmp_path / "w.pth",
    )
    network = build_network("vgg_net", 8)
    assert adopt_convolutions(network, tmp_path / "w.pth") == 6
    state = network.state_dict()
    assert torch.equal(state["features.3.weight"], theirs.state_dict()["2.weight"])
    assert torch.equal(state["features.1.running_mean"], torch.zeros(64))
