"""A weights file carries its facts and is refused when anything about it is wrong."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from worker.analysis.weights_file import Facts, Tensors, read_weights, save_weights
from worker.errors import UsageError
from worker.record import EMOTIONS

STATE: Tensors = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array([1, 2])}
FACTS = Facts(
    network="custom_net",
    classes=EMOTIONS,
    input_size=48,
    normalisation="per-face",
    temperature=0.7,
    training_command="python run_worker.py train",
    validation_accuracy=0.8,
)


def metadata_of(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, framework="np") as file:
        return dict(file.metadata())


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", STATE, FACTS)
    state, facts = read_weights(tmp_path / "w.safetensors")
    assert facts == FACTS
    assert {name: array.tolist() for name, array in state.items()} == {
        name: array.tolist() for name, array in STATE.items()
    }
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        read_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04pickle", b"\xff" * 100])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is not a readable safetensors file"):
        read_weights(path)


def test_another_projects_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(STATE, path)
    with pytest.raises(UsageError, match="was not written by this project"):
        read_weights(path)


def test_a_changed_tensor_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, STATE, FACTS)
    changed = {**STATE, "b": STATE["b"] + 1}
    safetensors.numpy.save_file(changed, path, metadata=metadata_of(path))
    with pytest.raises(UsageError, match="is damaged"):
        read_weights(path)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"temperature":0.7', '"temperature":0', "temperature"),
        ('"normalisation":"per-face"', '"normalisation":"none"', "normalisation"),
        ('"network":"custom_net",', "", "network"),
    ],
)
def test_wrong_facts_are_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, STATE, FACTS)
    metadata = metadata_of(path)
    assert old in metadata["facts"]
    metadata["facts"] = metadata["facts"].replace(old, new)
    safetensors.numpy.save_file(dict(sorted(STATE.items())), path, metadata=metadata)
    with pytest.raises(UsageError, match=f"its metadata is wrong: {says}"):
        read_weights(path)
