"""Weights files that a training can read and nothing can run."""

from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import pytest
from onnx import helper
from torch import nn


@contextmanager
def tensors_only() -> Iterator[None]:
    """While it lasts, a weights file that is written has all tensors and facts, and no graph, for
    which torch takes more than a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.training.export.to_onnx", _no_graph)
        yield


def _no_graph(exported: nn.Module, side: int) -> onnx.ModelProto:
    return helper.make_model(helper.make_graph([], "none", [], []))
