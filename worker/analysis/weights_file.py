"""Trained weights on disk: one ONNX file that carries its own facts.

The file is a graph from gray crops to calibrated probabilities; its metadata say which network it
is, which classes it tells apart and how it was trained. A SHA-256 of the whole file is among them,
so that a file that was damaged or edited by hand is refused instead of giving quietly wrong
emotions. All this is checked before ONNX Runtime sees a byte.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.errors import UsageError

FORMAT = "emotion-worker-2"
NO_DIGEST = "0" * 64  # stands for the SHA-256 while it is computed
# Field numbers of ONNX's protobuf messages (onnx.proto3).
MODEL_GRAPH, MODEL_METADATA, MODEL_FUNCTIONS = 7, 14, 25
GRAPH_NODE, GRAPH_TENSOR, GRAPH_SPARSE, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 5, 15, 5, 7
ATTRIBUTE_GRAPHS, ATTRIBUTE_TENSORS, ATTRIBUTE_SPARSE = (6, 11), (5, 10), (22, 23)
ELSEWHERE = 13  # where a tensor that lies in another file is to be found

Message = memoryview | bytes


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

    Raises ValueError or TypeError for a fact that cannot be.
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
        object.__setattr__(self, "classes", tuple(self.classes))
        sound = {
            "network": isinstance(self.network, str),
            "classes": len(self.classes) >= 2 and all(isinstance(c, str) for c in self.classes),
            "input_size": isinstance(self.input_size, int) and 8 <= self.input_size <= 512,
            "temperature": 0 < self.temperature < math.inf,
            "parameters": isinstance(self.parameters, int),
            "validation_accuracy": 0 <= self.validation_accuracy <= 1,
            "class_shares": self.class_shares is None
            or (
                list(self.class_shares) == list(self.classes)
                and all(0 <= share <= 1 for share in self.class_shares.values())
            ),
        }
        if wrong := [name for name, holds in sound.items() if not holds]:
            raise ValueError(f"{', '.join(wrong)} cannot be")


def digest(content: bytes, stated: str) -> str:
    """SHA-256 of a file's bytes, with the one that it states itself replaced by zeros."""
    return hashlib.sha256(content.replace(stated.encode(), NO_DIGEST.encode())).hexdigest()


def read_weights(path: Path) -> tuple[bytes, Facts]:
    """The bytes and the facts of a weights file, whole and of this project.

    Raises UsageError when the file is missing, damaged, of another kind, or holds operators outside
    the ONNX standard.
    """
    if not path.is_file():
        raise UsageError(f"[classification] weights: there is no file {path}")
    try:
        content = path.read_bytes()
        metadata = dict(map(_entry, _inside([content], MODEL_METADATA)))
    except (OSError, ValueError, IndexError) as error:
        raise UsageError(f"{path} is not a readable ONNX file: {error}") from error
    if metadata.get("format") != FORMAT:
        raise UsageError(
            f"{path} was not written by this project (its metadata lack format={FORMAT}); "
            "use a file from weights/, or one that `train` or `export` wrote"
        )
    stated = metadata.get("sha256", "")
    if len(stated) != len(NO_DIGEST) or digest(content, stated) != stated:
        raise UsageError(f"{path} is damaged: it does not have the SHA-256 that it states")
    try:
        if unwanted := _unwanted(content):
            raise UsageError(f"{path} holds {unwanted}")
        return content, Facts(**json.loads(metadata.get("facts", "")))
    except (ValueError, IndexError, TypeError) as error:
        raise UsageError(f"{path}: its metadata are wrong: {error}") from error


def _unwanted(content: bytes) -> str:
    """What a network of ours never holds, in words; empty if there is none of it."""
    graphs = _inside([content], MODEL_GRAPH)
    nodes = _inside(graphs, GRAPH_NODE)
    attributes = _inside(nodes, NODE_ATTRIBUTE)
    domains = [domain for domain in _inside(nodes, NODE_DOMAIN) if len(domain)]
    if domains or _inside(attributes, *ATTRIBUTE_GRAPHS) or _inside([content], MODEL_FUNCTIONS):
        return "operators outside the ONNX standard"
    tensors = _inside(graphs, GRAPH_TENSOR) + _inside(attributes, *ATTRIBUTE_TENSORS)
    sparse = _inside(graphs, GRAPH_SPARSE) + _inside(attributes, *ATTRIBUTE_SPARSE)
    return "numbers that are kept elsewhere" if sparse or _inside(tensors, ELSEWHERE) else ""


def _inside(messages: Sequence[Message], *numbers: int) -> list[Message]:
    """The content of every field of these numbers in the messages."""
    return [value for each in messages for kind, value in _fields(each) if kind in numbers]


def _entry(message: Message) -> tuple[str, str]:
    """Key and value of one line of metadata."""
    texts = {number: bytes(text).decode() for number, text in _fields(message)}
    return texts.get(1, ""), texts.get(2, "")


def _fields(message: Message) -> Iterator[tuple[int, Message]]:
    """The fields of a protobuf message that hold bytes: number and content.

    Raises ValueError or IndexError for what is no protobuf.
    """
    view, at = memoryview(message), 0
    while at < len(view):
        tag, at = _varint(view, at)
        kind, size = tag & 7, 0
        if kind == 0:
            _, at = _varint(view, at)
        elif kind == 2:
            size, at = _varint(view, at)
            yield tag >> 3, view[at : at + size]
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("it is no protobuf")
        at += size
        if at > len(view):
            raise ValueError("it is cut off")


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """A number of a protobuf message, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        value |= (view[at] & 0x7F) << shift
        at += 1
        if view[at - 1] < 0x80:
            return value, at
    raise ValueError("it is no protobuf")
