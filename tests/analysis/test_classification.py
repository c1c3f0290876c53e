"""The worker's own classification call: shipped weights, and files made wrong by hand."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.tiny_network import FACTS, tiny_model, write
from worker.analysis.classification import BATCH, Classifier
from worker.analysis.face_net import FaceNet
from worker.config import PROJECT
from worker.errors import UsageError
from worker.record import EMOTIONS

WEIGHTS = PROJECT / "weights" / "emotion_net_small.onnx"
CROPS = np.random.default_rng(0).integers(0, 256, (BATCH + 3, 48, 48)).astype(np.uint8)
CLASSIFIER = Classifier(WEIGHTS)


def test_no_face_gives_no_probabilities() -> None:
    assert CLASSIFIER.classify([]).shape == (0, 8)


def test_a_face_gets_the_same_probabilities_alone_and_in_a_crowd() -> None:
    together = CLASSIFIER.classify(CROPS)
    assert together.dtype == np.float32
    assert together.shape == (BATCH + 3, 8)
    assert np.allclose(together.sum(axis=1), 1, atol=1e-5)
    for i in (0, BATCH - 1, BATCH, BATCH + 2):
        assert np.allclose(CLASSIFIER.classify(CROPS[i : i + 1])[0], together[i], atol=1e-5)


def test_brightness_and_contrast_make_no_difference() -> None:
    dim = CROPS // 4
    assert np.allclose(CLASSIFIER.classify(dim), CLASSIFIER.classify(dim * 3 + 60), atol=1e-4)


def test_a_crop_without_contrast_is_no_accident() -> None:
    flat = np.full((1, 48, 48), 200, np.uint8)
    assert np.isfinite(CLASSIFIER.classify(flat)).all()


def test_a_subset_of_the_classes_is_renormalised() -> None:
    whole = CLASSIFIER.classify(CROPS[:4])
    part = Classifier(WEIGHTS, ("anger", "neutral")).classify(CROPS[:4])
    columns = whole[:, [EMOTIONS.index("anger"), EMOTIONS.index("neutral")]]
    assert np.allclose(part, columns / columns.sum(axis=1, keepdims=True), atol=1e-5)


def test_a_subset_of_impossible_classes_is_shared_evenly(tmp_path: Path) -> None:
    sure = write(tmp_path / "w.onnx", tiny_model(weight=1e6))
    bright = np.full((1, 8, 8), 255, np.uint8)
    assert Classifier(sure).classify(bright).round(6).tolist() == [[0, 0, 1]]
    part = Classifier(sure, ("dark", "medium")).classify(bright)
    assert part.tolist() == [[0.5, 0.5]]


def test_what_is_expected_weighs_the_probabilities_before_a_subset_is_taken(
    tmp_path: Path,
) -> None:
    # Of its training faces 0.5 were dark, 0.3 medium, 0.2 bright.
    weights = write(tmp_path / "w.onnx", tiny_model())
    crop = np.random.default_rng(0).integers(0, 256, (1, 8, 8)).astype(np.uint8)
    [as_trained] = Classifier(weights).classify(crop)
    [even] = Classifier(weights, expected="even").classify(crop)
    third = as_trained / [0.5, 0.3, 0.2]
    assert np.allclose(even, third / third.sum(), atol=1e-5)
    [part] = Classifier(weights, ("dark", "bright"), expected="even").classify(crop)
    assert np.allclose(part, third[[0, 2]] / third[[0, 2]].sum(), atol=1e-5)
    assert not np.allclose(even, as_trained, atol=0.01)


def test_as_trained_changes_nothing() -> None:
    plain = Classifier(WEIGHTS, expected="as trained")
    assert plain.expected is None
    assert np.array_equal(plain.classify(CROPS), CLASSIFIER.classify(CROPS))
    even = Classifier(WEIGHTS, expected="even")
    assert even.expected == "even"
    assert not np.allclose(even.classify(CROPS), CLASSIFIER.classify(CROPS), atol=0.01)


def test_a_file_that_does_not_state_its_shares_cannot_be_told_what_to_expect(
    tmp_path: Path,
) -> None:
    silent = write(tmp_path / "w.onnx", tiny_model(), {"class_shares": None})
    with pytest.raises(UsageError, match="does not say how often each emotion"):
        Classifier(silent, expected="even")
    with pytest.raises(UsageError, match=r"expected: .*w\.onnx does not know fear; it knows dark"):
        Classifier(write(tmp_path / "w.onnx", tiny_model()), expected="fear 0.5")


def test_a_class_that_the_network_does_not_know_is_named() -> None:
    with pytest.raises(UsageError, match="does not know joy"):
        Classifier(WEIGHTS, ("joy", "neutral"))


def test_one_classifier_serves_several_threads() -> None:
    alone = [CLASSIFIER.classify(CROPS[i : i + 4]) for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: CLASSIFIER.classify(CROPS[i : i + 4]), range(8)))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_crowd_leaves_no_memory_behind() -> None:
    CLASSIFIER.classify(CROPS)
    before = resident()
    CLASSIFIER.classify([CROPS[0]] * 1500)
    assert resident() - before < 10e6


def ending(operator: str) -> onnx.NodeProto:
    return helper.make_node(operator, ["logits"], ["probabilities"])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: tiny_model(side=9), "it takes .*9, 9.*, not crops of 8 pixels"),
        (lambda: tiny_model(kind=TensorProto.FLOAT), "it takes tensor.float.*, not crops"),
        (lambda: tiny_model(classes=4), "it gives .*4.*, not 3 numbers a crop"),
        (
            lambda: tiny_model(last=ending("Neg")),
            "it gives no probabilities",
        ),
        (
            lambda: tiny_model(last=ending("Log"), weight=-1),
            "it gives no probabilities but .*nan",
        ),
        (lambda: tiny_model(weight=np.nan), "it gives no probabilities but .*nan"),
        (lambda: tiny_model(last=ending("Nonsense")), "Nonsense"),
    ],
)
def test_a_whole_file_that_is_no_such_network_is_refused(
    make: Callable[[], onnx.ModelProto], says: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "w.onnx", make())
    with pytest.raises(UsageError, match=r"w\.onnx is not a network that can be asked") as refusal:
        Classifier(path)
    assert re.search(says, str(refusal.value))
    assert "\n" not in str(refusal.value)


def test_the_shipped_networks_say_what_they_are() -> None:
    for path in (PROJECT / "weights").glob("*.onnx"):
        facts = (FaceNet if path.stem == "face_net" else Classifier)(path).facts
        assert facts.network == path.stem
        assert facts.parameters > 100_000
        assert facts.classes == EMOTIONS or path.stem == "face_net"
        assert facts.classes != EMOTIONS or sum((facts.class_shares or {}).values()) == (
            pytest.approx(1, abs=0.001)
        )


def test_neither_torch_nor_onnx_is_needed() -> None:
    script = (
        "import sys; sys.modules.update(torch=None, onnx=None, onnxscript=None, safetensors=None)\n"
        "from pathlib import Path; import numpy as np\n"
        "from worker.analysis.classification import Classifier\n"
        f"print(Classifier(Path({str(WEIGHTS)!r})).classify(np.zeros((2, 48, 48), 'u1')).shape)\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("(2, 8)\n", "")


def test_the_tiny_network_of_these_tests_is_a_sound_one(tmp_path: Path) -> None:
    classifier = Classifier(write(tmp_path / "w.onnx", tiny_model()))
    assert classifier.classes == FACTS.classes
    assert classifier.classify(np.zeros((2, 8, 8), np.uint8)).shape == (2, 3)
