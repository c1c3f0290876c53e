"""Trained weights on disk: one safetensors file that carries its own facts.

No pickle: a weights file can hold numbers and text, never code. The facts (which network, which
classes, how to normalise, the calibration temperature, how it was trained) travel in the file's
metadata, together with a SHA-256 of the tensors, so that a file that was damaged or edited by hand
is refused instead of giving quietly wrong emotions.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from worker.errors import UsageError

FORMAT = "emotion-worker-1"
Tensors = dict[str, NDArray[np.generic]]


class Facts(BaseModel):
    """What must be known to use the weights of one network.

    ``temperature``: the logits are divided by it before the softmax (Guo et al. 2017).
    ``mirrored``: the logits are averaged with those of the mirrored face. ``validation_accuracy``:
    fraction, FER+ validation faces, majority protocol.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: Annotated[str, StringConstraints(min_length=1)]
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    input_size: Annotated[int, Field(ge=8, le=512)]
    normalisation: Literal["per-face"]
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    mirrored: bool = False
    training_command: str
    validation_accuracy: Annotated[float, Field(ge=0, le=1)]


def save_weights(path: Path, state: Tensors, facts: Facts) -> None:
    """Write ``state`` (arrays by name) and ``facts`` to ``path``, replacing it in one step.

    Raises OSError when the folder cannot be written.
    """
    state = {name: np.ascontiguousarray(array) for name, array in sorted(state.items())}
    metadata = {
        "format": FORMAT,
        "facts": facts.model_dump_json(),
        "sha256": _digest(state),
    }
    partial = path.with_name(path.name + ".partial")
    safetensors.numpy.save_file(state, partial, metadata=metadata)
    partial.replace(path)


def read_weights(path: Path) -> tuple[Tensors, Facts]:
    """Read the arrays and facts of ``path``, without torch, so that a wrong file is known at once.

    Raises UsageError when the file is missing, damaged, or not one of this project.
    """
    if not path.is_file():
        raise UsageError(f"[classification] weights: there is no file {path}")
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (safetensors.SafetensorError, OSError) as error:
        raise UsageError(f"{path} is not a readable safetensors file: {error}") from error
    if metadata.get("format") != FORMAT:
        raise UsageError(
            f"{path} was not written by this project (its metadata lacks format={FORMAT}); "
            "use a file from weights/ or one that `train` wrote"
        )
    if metadata.get("sha256") != _digest(state):
        raise UsageError(f"{path} is damaged: its tensors do not have the SHA-256 that it states")
    try:
        facts = Facts.model_validate_json(metadata.get("facts", ""))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "facts"
        raise UsageError(f"{path}: its metadata is wrong: {where}: {first['msg']}") from error
    return state, facts


def _digest(state: Tensors) -> str:
    """SHA-256 over names, shapes, types and bytes of the tensors, in order of name."""
    sha = hashlib.sha256()
    for name, array in state.items():
        sha.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode())
        sha.update(array.tobytes())
    return sha.hexdigest()
