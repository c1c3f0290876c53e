"""Custom_net: the network of the work that this project continues.

Seven 3x3 convolutions without padding, each followed by batch norm and 2x2 max-pooling, of stride 1
after the first four and 2 after the last three; then three dense layers. 1.64 M parameters.
"""

from torch import Tensor, nn

CHANNELS = (8, 16, 32, 64, 128, 256, 256)
POOL_STRIDES = (1, 1, 1, 1, 2, 2, 2)
DROPOUT_AFTER = (2, 4, 6)
DROPOUT = 0.3


class CustomNet(nn.Module):
    """Gray faces to logits.

    Input: float32 ``(batch, 1, 48, 48)``, normalised. Output: float32 logits ``(batch, classes)``.
    """

    input_size = 48

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels_in = 1
        for number, (channels, stride) in enumerate(zip(CHANNELS, POOL_STRIDES, strict=True), 1):
            layers += [
                nn.Conv2d(channels_in, channels, kernel_size=3, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(kernel_size=2, stride=stride),
            ]
            if number in DROPOUT_AFTER:
                layers.append(nn.Dropout(DROPOUT))
            channels_in = channels
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(1024, 512),
            nn.ReLU(inplace=True),
            nn.Linear(512, 256),
            nn.ReLU(inplace=True),
            nn.Linear(256, classes),
        )

    def forward(self, faces: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(faces))
        return logits
