"""Our own networks: residual blocks, with channel attention or without, made for one CPU core.

A stem of stride 2 makes the maps small at once; on large ones Custom_net spends its time. Blocks
are those of He et al. 2016, the channel attention is that of Hu et al. 2018. One class makes the
whole family; a member is a set of `Sizes`, and the sizes of a trained one are facts of its file.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d

SQUEEZE = 8  # channels for each that the attention sees
DROPOUT = 0.2
LARGEST = 4096  # of any size
CELLS = 2  # a side: what a box is read from, the mean of the last maps in each


@dataclass(frozen=True)
class Sizes:
    """One member of the family.

    ``blocks[i]`` residual blocks of ``channels[i]`` in stage i. ``attention``: squeeze-and-excite
    in each block. ``stem_stride`` 2: a 5x5 convolution that halves the maps; 1: a 3x3 one that does
    not. ``stem``: its channels, and then every stage halves the maps; 0: those of the first stage,
    which then keeps the maps as they are. ``shortcut`` of a block that halves: ``pooled`` averages
    2x2 pixels and then changes the channels, ``convolution`` does both at once, which is faster.

    Raises ValueError, or TypeError if a list is none, for what cannot be.
    """

    channels: Sequence[int]
    blocks: Sequence[int]
    attention: bool = True
    stem: int = 0
    stem_stride: int = 2
    shortcut: str = "pooled"

    def __post_init__(self) -> None:
        numbers = (*self.channels, *self.blocks, self.stem)
        if not all(isinstance(each, int) and 0 <= each <= LARGEST for each in numbers):
            raise ValueError(f"channels, blocks and stem must be whole numbers up to {LARGEST}")
        if not 0 < len(self.channels) == len(self.blocks):
            raise ValueError("channels and blocks must have one number for each stage")
        if min(self.channels) < SQUEEZE or min(self.blocks) < 1:
            raise ValueError(f"channels must be {SQUEEZE} or more, blocks 1 or more")
        if self.stem_stride not in (1, 2) or self.attention not in (True, False):
            raise ValueError("stem_stride must be 1 or 2, attention yes or no")
        if self.shortcut not in ("pooled", "convolution"):
            raise ValueError("shortcut must be pooled or convolution")


MEMBERS = {
    "emotion_net": Sizes((32, 80, 160), (1, 2, 2)),
    "emotion_net_small": Sizes((16, 48, 128), (1, 1, 1), attention=False, shortcut="convolution"),
    # Teachers, each dearer and better than the one before it.
    "emotion_net_wide": Sizes((40, 96, 192), (1, 2, 2)),
    "emotion_net_broad": Sizes((96, 192, 384), (2, 3, 3)),
    "emotion_net_deep": Sizes((48, 96, 192, 320), (2, 3, 3, 3), stem_stride=1),
    "emotion_net_large": Sizes((64, 128, 256, 384), (2, 2, 2, 2), stem_stride=1),
    "face_net": Sizes((32, 64, 128), (1, 1, 1), stem=16, shortcut="convolution"),
}


class EmotionNet(nn.Module):
    """Gray faces to logits.

    Input: float32 ``(batch, 1, side, side)``, normalised; ``input_size`` is the side in pixels that
    it is made for. Output: float32 logits ``(batch, classes)``. With ``boxes`` it can also say
    where in its crop a face is.
    """

    def __init__(self, classes: int, sizes: Sizes, side: int = 48, boxes: bool = False) -> None:
        super().__init__()
        self.sizes, self.input_size, self.boxes = sizes, side, boxes
        width = sizes.stem or sizes.channels[0]
        kernel = 5 if sizes.stem_stride == 2 else 3
        layers = [_convolution(1, width, kernel, sizes.stem_stride), nn.ReLU(inplace=True)]
        for stage, (channels, count) in enumerate(zip(sizes.channels, sizes.blocks, strict=True)):
            for number in range(count):
                halves = number == 0 and (stage > 0 or sizes.stem > 0)
                layers.append(_Block(width, channels, 2 if halves else 1, sizes))
                width = channels
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(width, classes)
        if boxes:
            self.box_head = nn.Linear(width * CELLS**2, 3)
            nn.init.zeros_(self.box_head.weight)  # until it has learned, a face fills its crop
            nn.init.zeros_(self.box_head.bias)

    def forward(self, faces: Tensor) -> Tensor:
        return self.look(faces)[0]

    def look(self, faces: Tensor) -> tuple[Tensor, ...]:
        """Logits, and with ``boxes`` where the faces are, float32 ``(batch, 3)``: the centre
        from that of the crop, right and down, in its sides; the logarithm of the side in these."""
        maps = self.features(faces)
        logits = self.head(self.dropout(adaptive_avg_pool2d(maps, 1).flatten(1)))
        return (logits, self.box_head(cells(maps))) if self.boxes else (logits,)


def cells(maps: Tensor) -> Tensor:
    """The means ``(batch, channels * CELLS ** 2)`` of maps ``(batch, channels, any, any)``."""
    return adaptive_avg_pool2d(maps, CELLS).flatten(1)


class _Block(nn.Module):
    def __init__(self, channels_in: int, channels: int, stride: int, sizes: Sizes) -> None:
        super().__init__()
        self.first = _convolution(channels_in, channels, 3, stride)
        self.second = _convolution(channels, channels, 3)
        self.attention = sizes.attention
        if self.attention:
            self.squeeze = nn.Linear(channels, channels // SQUEEZE)
            self.excite = nn.Linear(channels // SQUEEZE, channels)
        if stride == 2 and sizes.shortcut == "convolution":
            shortcut = [_convolution(channels_in, channels, 2, stride)]
        else:
            shortcut = [nn.AvgPool2d(2)] if stride == 2 else []
            if channels_in != channels:
                shortcut.append(_convolution(channels_in, channels, 1))
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.second(torch.relu(self.first(maps)))
        if self.attention:
            # As convolutions of one pixel: ONNX Runtime then never leaves its layout of channels.
            weights = torch.relu(_dense(self.squeeze, adaptive_avg_pool2d(inner, 1)))
            inner = inner * torch.sigmoid(_dense(self.excite, weights))
        return torch.relu(inner + self.shortcut(maps))


def _dense(layer: nn.Linear, pixel: Tensor) -> Tensor:
    return conv2d(pixel, layer.weight[:, :, None, None], layer.bias)


def _convolution(channels_in: int, channels: int, kernel: int, stride: int = 1) -> nn.Module:
    padding = kernel // 2 if kernel % 2 else 0
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, kernel, stride, padding=padding, bias=False),
        nn.BatchNorm2d(channels),
    )
