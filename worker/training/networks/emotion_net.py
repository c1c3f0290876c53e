"""Our own networks: residual blocks with squeeze-and-excitation, made for one CPU core.

A stem of stride 2 makes the maps small at once, which is where Custom_net spends its time; blocks
are those of He et al. 2016 with the channel attention of Hu et al. 2018. The sizes were chosen by
the time for one face, not by the count of multiply-adds (emotion_net 69 M, emotion_net_small 28 M).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

SQUEEZE = 8  # channels for each that the attention sees
DROPOUT = 0.2


class EmotionNet(nn.Module):
    """Gray faces to logits: ``blocks[i]`` residual blocks of ``channels[i]`` in each stage.

    Input: float32 ``(batch, 1, 48, 48)``, normalised. Output: float32 logits ``(batch, classes)``.
    """

    input_size = 48

    def __init__(
        self,
        classes: int,
        channels: Sequence[int] = (32, 80, 160),
        blocks: Sequence[int] = (1, 2, 2),
    ) -> None:
        super().__init__()
        layers = [_convolution(1, channels[0], kernel=5, stride=2), nn.ReLU(inplace=True)]
        width = channels[0]
        for stage, (next_width, count) in enumerate(zip(channels, blocks, strict=True)):
            for number in range(count):
                shrinks = stage > 0 and number == 0
                layers.append(_Block(width, next_width, stride=2 if shrinks else 1))
                width = next_width
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(width, classes)

    def forward(self, faces: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.features(faces).mean(dim=(2, 3))))
        return logits


class EmotionNetSmall(EmotionNet):
    """The same for crowds and small machines, at two fifths of the arithmetic."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, channels=(32, 64, 128), blocks=(1, 1, 1))


class _Block(nn.Module):
    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(channels_in, channels, kernel=3, stride=stride)
        self.second = _convolution(channels, channels, kernel=3)
        self.squeeze = nn.Linear(channels, channels // SQUEEZE)
        self.excite = nn.Linear(channels // SQUEEZE, channels)
        shortcut: list[nn.Module] = [nn.AvgPool2d(2)] if stride == 2 else []
        if channels_in != channels:
            shortcut.append(_convolution(channels_in, channels, kernel=1))
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.second(torch.relu(self.first(maps)))
        weights = torch.sigmoid(self.excite(torch.relu(self.squeeze(inner.mean(dim=(2, 3))))))
        return torch.relu(inner * weights[:, :, None, None] + self.shortcut(maps))


def _convolution(channels_in: int, channels: int, kernel: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels),
    )
