"""The networks of before: plain stacks of 3x3 convolutions, then dense layers.

Custom_net is that of the work that this project continues: no padding, max-pooling of stride 1
after the first four convolutions and 2 after the last three; 1.64 M parameters. VGG_net is the
VGG13 of the FER+ paper (Barsoum et al. 2016), 8.76 M parameters; batch norm after each convolution
is ours: without it the network hardly trains from scratch.

Both turn gray faces, float32 ``(batch, 1, input_size, input_size)``, normalised, into logits,
float32 ``(batch, classes)``.
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

# A number: a convolution with so many channels, with batch norm. A fraction: dropout. A text:
# max-pooling of 2x2 pixels with this stride.
CUSTOM_NET = (8, "1", 16, "1", 0.3, 32, "1", 64, "1", 0.3, 128, "2", 256, "2", 0.3, 256, "2")
VGG_NET = (64, 64, "2", 0.25, 128, 128, "2", 0.25) + 2 * (256, 256, 256, "2", 0.25)


class CustomNet(nn.Sequential):
    """Takes faces of 48 pixels."""

    input_size = 48

    def __init__(self, classes: int) -> None:
        head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(1024, 512),
            nn.ReLU(inplace=True),
            nn.Linear(512, 256),
            nn.ReLU(inplace=True),
            nn.Linear(256, classes),
        )
        super().__init__(OrderedDict(features=_convolutions(CUSTOM_NET, padding=0), head=head))


class VGGNet(nn.Sequential):
    """Takes faces of 64 pixels. Other sides from 16 on are taken too: a training may begin on
    small, cheap pictures."""

    input_size = 64

    def __init__(self, classes: int) -> None:
        head = nn.Sequential(
            nn.AdaptiveAvgPool2d(4),  # changes nothing at 64 pixels
            nn.Flatten(),
            nn.Linear(256 * 4 * 4, 1024),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(1024, 1024),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(1024, classes),
        )
        super().__init__(OrderedDict(features=_convolutions(VGG_NET, padding=1), head=head))


def _convolutions(layout: Sequence[int | float | str], padding: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    width = 1
    for each in layout:
        if isinstance(each, str):
            layers.append(nn.MaxPool2d(2, stride=int(each)))
        elif isinstance(each, float):
            layers.append(nn.Dropout(each))
        else:
            layers.append(nn.Conv2d(width, each, kernel_size=3, padding=padding, bias=False))
            layers += [nn.BatchNorm2d(each), nn.ReLU(inplace=True)]
            width = each
    return nn.Sequential(*layers)
