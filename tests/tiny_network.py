"""A network file of a few hundred bytes, made by hand, so that a test can make it wrong."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from worker.analysis.weights_file import FORMAT, NO_DIGEST, Facts, digest

SIDE = 8
FACTS = Facts(
    network="tiny_net",
    classes=("dark", "medium", "bright"),
    input_size=SIDE,
    temperature=0.7,
    recipe="by hand",
    validation_accuracy=0.8,
    parameters=SIDE * SIDE * 3,
    sizes={"channels": [8, 16]},
    class_shares={"dark": 0.5, "medium": 0.3, "bright": 0.2},
)
LAST = helper.make_node("Softmax", ["logits"], ["probabilities"])


def tiny_model(
    *,
    side: int = SIDE,
    kind: int = TensorProto.UINT8,
    classes: int = 3,
    weight: float = 1.0,
    last: onnx.NodeProto = LAST,
) -> onnx.ModelProto:
    """Crops ``(n, side, side)`` of ``kind`` to ``classes`` numbers, by one dense layer."""
    dense = np.linspace(-weight, weight, side * side * classes, dtype=np.float32)
    nodes = [
        helper.make_node("Cast", ["crops"], ["gray"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["gray"], ["row"]),
        helper.make_node("MatMul", ["row", "dense.weight"], ["logits"]),
        last,
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("crops", kind, ["n", side, side])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", classes])],
        [numpy_helper.from_array(dense.reshape(side * side, classes) / 1000, "dense.weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def write(path: Path, model: onnx.ModelProto, facts: dict[str, Any] | None = None) -> Path:
    """Seal the model with facts (changes of FACTS) and write it, whole by its own digest."""
    stated = {**asdict(FACTS), **(facts or {})}
    stated = {name: value for name, value in stated.items() if value != "left out"}
    metadata = {"format": FORMAT, "facts": json.dumps(stated), "sha256": NO_DIGEST}
    helper.set_model_props(model, metadata)
    metadata["sha256"] = digest(model.SerializeToString(), NO_DIGEST)
    helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())
    return path
