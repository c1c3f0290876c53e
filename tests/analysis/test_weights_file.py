"""A weights file carries its facts and is refused when anything about it is wrong."""

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from tests.tiny_network import FACTS, tiny_model, write
from worker.analysis.weights_file import read_weights
from worker.errors import UsageError


def test_the_facts_are_read_back(tmp_path: Path) -> None:
    path = write(tmp_path / "w.onnx", tiny_model())
    content, facts = read_weights(path)
    assert facts == FACTS
    assert content == path.read_bytes()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        read_weights(tmp_path / "w.onnx")


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x80\x04pickle", b"\xff" * 100, b"\x3a\xff\xff\xff\x7f", b"\x08"]
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.onnx"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="was not written by this project"):
        read_weights(path)


def test_another_projects_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.onnx"
    path.write_bytes(tiny_model().SerializeToString())
    with pytest.raises(UsageError, match="was not written by this project"):
        read_weights(path)


def test_whichever_byte_is_changed_the_file_is_refused(tmp_path: Path) -> None:
    model = tiny_model()
    path = write(tmp_path / "w.onnx", model)
    whole = path.read_bytes()
    for at in range(0, len(whole), 5):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(UsageError):
            read_weights(path)
    numbers = model.graph.initializer[0].raw_data
    path.write_bytes(whole.replace(numbers, numbers[::-1]))
    with pytest.raises(UsageError, match="is damaged: it does not have the SHA-256 that it states"):
        read_weights(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, share: float) -> None:
    path = write(tmp_path / "w.onnx", tiny_model())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UsageError):
        read_weights(path)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"network": "left out"}, "network"),
        ({"recipe": "x" * 20_000, "colour": 1}, "colour"),
        ({"colour": "blue"}, "colour"),
        ({"classes": [1, 2]}, "a name is no text"),
        ({"classes": 5}, "not iterable"),
        ({"network": None}, "a name is no text"),
        ({"temperature": "hot"}, "a figure is no number"),
        ({"class_shares": {"anger": None}}, "a figure is no number"),
        ({"class_shares": 1}, "not iterable"),
        ({"input_size": -1}, "input_size -1 is not from 1 to 1024"),
        ({"input_size": 10**12}, "input_size 1000000000000 is not from 1 to 1024"),
        ({"input_size": [48]}, "is not from 1 to 1024"),
    ],
)
def test_wrong_facts_are_named(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    path = write(tmp_path / "w.onnx", tiny_model(), changed)
    with pytest.raises(UsageError, match=f"its metadata are wrong: .*{says}"):
        read_weights(path)


def test_nothing_beside_the_file_is_read(tmp_path: Path) -> None:
    # Given a network whose tensor lies in another file
    model = tiny_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="beside.bin")
    inside = helper.make_node("Constant", [], ["probabilities"], value=tensor)
    for wrong in (model, tiny_model(last=inside)):
        with pytest.raises(UsageError, match=r"w\.onnx holds numbers that are kept elsewhere"):
            read_weights(write(tmp_path / "w.onnx", wrong))


def nested(inside: onnx.NodeProto) -> onnx.NodeProto:
    branch = helper.make_graph(
        [inside], "branch", [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)]
    )
    return helper.make_node(
        "If", ["yes"], ["probabilities"], then_branch=branch, else_branch=branch
    )


@pytest.mark.parametrize(
    "last",
    [
        helper.make_node("QuickGelu", ["logits"], ["probabilities"], domain="com.microsoft"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], domain="ai.onnx.ml"),
        nested(helper.make_node("QuickGelu", ["logits"], ["inner"], domain="com.microsoft")),
    ],
)
def test_only_operators_of_the_standard_are_taken(tmp_path: Path, last: onnx.NodeProto) -> None:
    path = write(tmp_path / "w.onnx", tiny_model(last=last))
    with pytest.raises(UsageError, match="holds operators outside the ONNX standard"):
        read_weights(path)


def test_functions_of_its_own_are_not_taken(tmp_path: Path) -> None:
    model = tiny_model()
    gelu = helper.make_node("QuickGelu", ["x"], ["y"], domain="com.microsoft")
    standard = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("own", "F", ["x"], ["y"], [gelu], standard))
    with pytest.raises(UsageError, match="holds operators outside the ONNX standard"):
        read_weights(write(tmp_path / "w.onnx", model))
