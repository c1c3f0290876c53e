"""face_net: is this a face at all? The second stage of the detector, 0.2 M parameters.

It sees everything that the cascades let through, some dozens of windows a picture, so it is made to
cost little more than a tenth of a millisecond for each. The blocks are those of `emotion_net`.
"""

from worker.training.networks.emotion_net import EmotionNet


class FaceNet(EmotionNet):
    """Gray windows to logits of `worker.record.FACE_CLASSES`.

    Input: float32 ``(batch, 1, 32, 32)``, normalised. Output: float32 logits ``(batch, classes)``.
    """

    input_size = 32

    def __init__(self, classes: int) -> None:
        super().__init__(classes, channels=(24, 48, 96), blocks=(1, 1, 1))
