"""VGG_net: the VGG13 of the FER+ paper (Barsoum et al. 2016), 8.76 M parameters.

Ten 3x3 convolutions in four groups, each group with max-pooling and dropout; then three dense
layers. Batch norm after each convolution is ours: without it the network hardly trains from
scratch.
"""

from torch import Tensor, nn

GROUPS = ((64, 64), (128, 128), (256, 256, 256), (256, 256, 256))
GROUP_DROPOUT, DENSE_DROPOUT = 0.25, 0.5
DENSE = 1024


class VGGNet(nn.Module):
    """Gray faces to logits.

    Input: float32 ``(batch, 1, 64, 64)``, normalised. Output: float32 logits ``(batch, classes)``.
    Other sides from 16 on are taken too: a training may begin on small, cheap pictures.
    """

    input_size = 64

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 1
        for group in GROUPS:
            for channels in group:
                layers += [
                    nn.Conv2d(width, channels, kernel_size=3, padding=1, bias=False),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(inplace=True),
                ]
                width = channels
            layers += [nn.MaxPool2d(2), nn.Dropout(GROUP_DROPOUT)]
        self.features = nn.Sequential(*layers)
        side = self.input_size // 2 ** len(GROUPS)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(side),  # changes nothing at 64 pixels
            nn.Flatten(),
            nn.Linear(width * side * side, DENSE),
            nn.ReLU(inplace=True),
            nn.Dropout(DENSE_DROPOUT),
            nn.Linear(DENSE, DENSE),
            nn.ReLU(inplace=True),
            nn.Dropout(DENSE_DROPOUT),
            nn.Linear(DENSE, classes),
        )

    def forward(self, faces: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(faces))
        return logits
