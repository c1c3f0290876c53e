"""Trained weights on disk: one ONNX file that carries its own facts.

The file is a graph from gray crops to calibrated probabilities; its metadata say which network it
is, which classes it tells apart and how it was trained. A SHA-256 of the whole file is among them,
so that a file that was damaged or edited by hand is refused instead of giving quietly wrong
emotions. All this is checked before ONNX Runtime sees a byte.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.errors import UsageError

FORMAT = "emotion-worker-2"
NO_DIGEST = "0" * 64  # stands for the SHA-256 while it is computed
LARGEST_INPUT = 1024  # pixels: bounds the memory that a file can make us ask for
# What a network of ours never holds, by a text that stands in each file which does: the names of
# ONNX Runtime's other sets of operators, and the key that says where a tensor's numbers are.
NOT_STANDARD, ELSEWHERE = "operators outside the ONNX standard", "numbers that are kept elsewhere"
UNWANTED = {
    **dict.fromkeys((b"com.microsoft", b"com.ms.", b"com.intel"), NOT_STANDARD),
    **dict.fromkeys((b"ai.onnx.", b"org.pytorch"), NOT_STANDARD),
    b"location": ELSEWHERE,
}


@dataclass(frozen=True)
class Facts:
    """What a weights file says of itself.

    ``network``: the name of its architecture; ``sizes``: what that can be built with, as
    `worker.training.networks` knows it. ``input_size``: side of a crop in pixels. ``parameters``:
    how many numbers were trained. ``class_shares``: how often each class was among the training
    faces, fractions. ``recipe``: how it was made. ``validation_accuracy``: fraction, FER+
    validation faces, majority protocol. In the graph already: ``temperature``, by which the logits
    are divided before the softmax (Guo et al. 2017), and ``mirrored``, whether they are averaged
    with those of the mirrored face.

    Raises TypeError or ValueError for what a file of ours never says.
    """

    network: str
    classes: tuple[str, ...]
    input_size: int
    temperature: float
    recipe: str
    validation_accuracy: float
    mirrored: bool = False
    parameters: int = 0
    sizes: dict[str, Any] = field(default_factory=dict)
    class_shares: dict[str, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))  # JSON knows lists only
        shares = dict(self.class_shares or {})
        texts = (self.network, self.recipe, *self.classes, *shares)
        numbers = (self.temperature, self.validation_accuracy, self.parameters, *shares.values())
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a name is no text")
        if not all(isinstance(number, int | float) for number in numbers):
            raise TypeError("a figure is no number")
        if self.input_size not in range(1, LARGEST_INPUT + 1):
            raise ValueError(f"input_size {self.input_size} is not from 1 to {LARGEST_INPUT}")


def digest(content: bytes, stated: str) -> str:
    """SHA-256 of a file's bytes, with the one that it states itself replaced by zeros."""
    return hashlib.sha256(content.replace(stated.encode(), NO_DIGEST.encode())).hexdigest()


def read_weights(path: Path) -> tuple[bytes, Facts]:
    """The bytes and the facts of a weights file, whole and of this project.

    Raises UsageError when the file is missing, damaged, of another kind, or holds operators outside
    the ONNX standard, or numbers that lie in another file.
    """
    if not path.is_file():
        raise UsageError(f"[classification] weights, or the flag for them: there is no file {path}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if not _behind(content, "format").startswith(FORMAT):
        raise UsageError(
            f"{path} was not written by this project (its metadata lack format={FORMAT}); "
            "use a file from weights/, or one that `train` or `export` wrote"
        )
    stated = _behind(content, "sha256")[: len(NO_DIGEST)]
    if len(stated) != len(NO_DIGEST) or digest(content, stated) != stated:
        raise UsageError(f"{path} is damaged: it does not have the SHA-256 that it states")
    for text, what in UNWANTED.items():
        if text in content:
            raise UsageError(f"{path} holds {what}")
    try:
        facts, _ = json.JSONDecoder().raw_decode(_behind(content, "facts"))
        return content, Facts(**facts)
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{path}: its metadata are wrong: {error}") from error


def _behind(content: bytes, key: str) -> str:
    """What begins with the value of a key of the metadata; empty if there is no such key.

    ONNX is protobuf, which writes texts as they are, each behind its length: a byte or more, all of
    which but the last have the highest bit set. So no reader of protobuf is needed to find one.
    """
    _, _, value = content.partition(b"\n%c%b\x12" % (len(key), key.encode()))
    return value.lstrip(bytes(range(0x80, 0x100)))[1:].decode(errors="replace")
