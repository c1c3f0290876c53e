"""Training on a tiny data set made here: it learns, resumes, and writes usable weights."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.training.toy_faces import NAMES, toy_faces, write_toy_data
from worker.analysis.classification import Classifier
from worker.analysis.detection import FACE_WEIGHTS
from worker.analysis.weights_file import read_weights
from worker.cli import main
from worker.commands.compare import shipped_weights
from worker.config import PROJECT
from worker.errors import UsageError
from worker.record import EMOTIONS
from worker.training import state
from worker.training.export import load_network
from worker.training.networks import build_network
from worker.training.options import TrainOptions
from worker.training.state import begin
from worker.training.train import Progress, choose_device, train

SIZES = ("channels=8,16", "blocks=1,1", "attention=no", "shortcut=convolution")  # quick to train
WEIGHTS = PROJECT / "weights" / "custom_net.onnx"


class InterruptedRunError(Exception):
    pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def quick_average(monkeypatch: pytest.MonkeyPatch) -> None:
    # The running average needs hundreds of steps to catch up; a toy run has a dozen.
    monkeypatch.setattr(state, "AVERAGE_DECAY", 0.5)


def options(data: Path, output: Path, epochs: int = 3) -> TrainOptions:
    return TrainOptions(
        "emotion_net", (data,), output, epochs=epochs, batch_size=8, threads=1, sizes=SIZES
    )


def test_the_loss_falls_and_the_weights_name_what_they_were_trained_on(
    data: Path, tmp_path: Path
) -> None:
    losses: dict[int, float] = {}

    def report(progress: Progress) -> None:
        if progress.loss is not None:
            losses[progress.epoch] = progress.loss

    facts = train(options(data, tmp_path / "w.onnx", epochs=8), report)
    assert losses[8] < losses[1] / 2
    assert facts.validation_accuracy > 0.9
    assert "--network emotion_net" in facts.recipe
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.onnx", "w.png"]
    assert cv2.imread(str(tmp_path / "w.png")) is not None
    pictures, kinds = toy_faces(99, 20)
    classifier = Classifier(tmp_path / "w.onnx")
    named = [EMOTIONS[i] for i in classifier.classify(pictures).argmax(axis=1)]
    assert np.mean([a == b for a, b in zip(named, kinds, strict=True)]) > 0.9


def test_an_interrupted_run_ends_with_the_same_weights(data: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.onnx"
    train(options(data, whole), lambda progress: None)

    def interrupt(progress: Progress) -> None:
        if progress.epoch == 2 and progress.batch == 3:
            raise InterruptedRunError

    (tmp_path / "again").mkdir()
    resumed = tmp_path / "again" / "whole.onnx"
    with pytest.raises(InterruptedRunError):
        train(options(data, resumed), interrupt)
    assert not resumed.exists()
    epochs = []
    train(options(data, resumed), lambda progress: epochs.append(progress.epoch))
    assert min(epochs) == 2
    first, second = (load_network(path)[0].state_dict() for path in (whole, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_checkpoint_of_another_run_is_not_taken(data: Path, tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.epoch == 2:
            raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        train(options(data, tmp_path / "w.onnx"), interrupt)
    with pytest.raises(UsageError, match="is the checkpoint of another run"):
        train(options(data, tmp_path / "w.onnx", epochs=9), interrupt)


def test_too_little_data_and_unknown_networks_are_refused(data: Path, tmp_path: Path) -> None:
    def run(network: str, batch_size: int) -> None:
        out = tmp_path / "w.onnx"
        train(TrainOptions(network, (data,), out, batch_size=batch_size), print)

    with pytest.raises(UsageError, match="too little to train on: 40 faces"):
        run("emotion_net", 64)
    with pytest.raises(UsageError, match="unknown network 'deep_net'; known: custom_net"):
        run("deep_net", 8)


def test_the_commands_train_and_evaluate_from_one_to_the_other(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, figures = tmp_path / "w.onnx", tmp_path / "figures.json"
    flags = ["--epochs", "1", "--batch-size", "8", "--output", str(weights), "--sizes", *SIZES]
    assert main(["train", "--data", str(data), *flags]) == 0
    assert "epoch 1/1: loss" in capsys.readouterr().out
    split = ["--split", "FER2013Valid", "--weights", str(weights), "--json", str(figures)]
    assert main(["evaluate", "emotions", "--data", str(data), *split]) == 0
    written = json.loads(figures.read_text())
    assert (written["network"], written["samples"]) == ("emotion_net", 16)
    low, high = written["interval"]
    assert 0 <= low <= written["accuracy"] <= high <= 1
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == "16 faces"
    shown = f"| w | {100 * written['accuracy']:.1f} % | {100 * low:.1f} to {100 * high:.1f} | "
    assert any(line.startswith(shown) for line in lines)
    assert "warning: 16 faces are few" in printed.err
    assert [line.split("\t")[0] for line in lines[-8:]] == list(EMOTIONS)

    plots = tmp_path / "plots"
    both = ["--weights", str(weights), str(WEIGHTS), "--json", str(figures), "--plots", str(plots)]
    assert main(["compare", "--data", str(data), "--split", "FER2013Valid", *both]) == 0
    compared = json.loads(figures.read_text())
    assert [each["weights"] for each in compared] == [str(weights), str(WEIGHTS)]
    assert compared[0]["bytes"] == weights.stat().st_size
    printed = capsys.readouterr()
    assert printed.out.startswith("16 faces\n\n| weights | accuracy | 95 % interval |")
    assert "| custom_net | " in printed.out
    assert "label 200 or more" in printed.err
    nowhere = ["--weights", str(weights), "--json", str(weights / "figures.json")]
    assert main(["compare", "--data", str(data), "--split", "FER2013Valid", *nowhere]) == 1
    assert f"cannot write {weights / 'figures.json'}" in capsys.readouterr().err
    drawn = ["--weights", str(weights), "--plots", str(plots), "--split", "FER2013Valid"]
    assert main(["evaluate", "emotions", "--data", str(data), *drawn]) == 0
    for name in ("comparison.png", "confusion.png", "reliability.png"):
        assert cv2.imread(str(plots / name)) is not None


def test_all_shipped_networks_that_know_emotions_are_compared() -> None:
    assert WEIGHTS in shipped_weights()
    for weights in shipped_weights():
        assert read_weights(weights)[1].classes == EMOTIONS


def test_a_run_can_begin_with_weights(data: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.onnx"
    taught_facts = train(options(data, first, epochs=8), lambda progress: None)
    assert taught_facts.validation_accuracy > 0.9
    still = replace(options(data, tmp_path / "w.onnx", epochs=1), learning_rate=1e-9)
    facts = train(replace(still, init=first, sizes=()), lambda progress: None)
    assert facts.validation_accuracy == taught_facts.validation_accuracy
    assert f"--init {first}" in facts.recipe

    with pytest.raises(UsageError, match=r"--init .* is a emotion_net for"):
        train(replace(still, init=first, network="emotion_net_small"), lambda progress: None)


def test_a_file_with_other_convolutions_is_no_beginning(data: Path, tmp_path: Path) -> None:
    plain = options(data, tmp_path / "w.onnx", epochs=1)
    run = replace(plain, network="vgg_net", side=16, sizes=())
    for name, content, says in (
        ("none.pth", None, "no readable file of weights"),
        ("junk.pth", b"junk", "no readable file of weights"),
        ("list.pth", [1], "no state dict"),
        ("other.pth", {"features.0.weight": torch.zeros(8, 3, 3, 3)}, "none of its convolutions"),
    ):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            torch.save(content, path)
        with pytest.raises(UsageError, match=f"(?s)--init .*{name}.*{says}"):
            train(replace(run, init=path), lambda progress: None)


def test_a_pupil_learns_from_stored_views_and_goes_on_where_it_was_interrupted(
    data: Path, tmp_path: Path
) -> None:
    teacher = tmp_path / "teacher.onnx"
    train(options(data, teacher, epochs=8), lambda progress: None)
    (tmp_path / "one").mkdir()
    pupil = replace(
        options(data, tmp_path / "one" / "w.onnx", epochs=4), teacher=(teacher,), views=2
    )
    notes: list[str] = []
    facts = train(pupil, lambda progress: notes.append(progress.note))
    assert [note for note in notes if note] == notes[:1]
    assert "2 of 2 views of 40 faces are to be made" in notes[0]
    assert f"--teacher {teacher} --views 2" in facts.recipe
    [folder] = (path for path in (tmp_path / "one").iterdir() if path.is_dir())
    assert sorted(path.name for path in folder.iterdir()) == ["000.npy", "001.npy"]

    def interrupt(progress: Progress) -> None:
        if progress.epoch == 2 and progress.loss is None and not progress.note:
            raise InterruptedRunError  # while the teachers look at the second view

    (tmp_path / "two").mkdir()
    resumed = replace(pupil, output=tmp_path / "two" / "w.onnx")
    with pytest.raises(InterruptedRunError):
        train(resumed, interrupt)
    train(resumed, lambda progress: None)
    first, second = (load_network(run.output)[0].state_dict() for run in (pupil, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_teachers_that_are_asked_anew_each_time_need_no_views(data: Path, tmp_path: Path) -> None:
    weights = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for seed, path in enumerate(weights):
        train(replace(options(data, path, epochs=1), seed=seed), lambda progress: None)
    run = replace(options(data, tmp_path / "w.onnx", epochs=8), teacher=tuple(weights), mixup=0.2)
    facts = train(run, lambda progress: None)
    assert facts.validation_accuracy > 0.5
    assert f"--teacher {weights[0]} {weights[1]} --mixup 0.2" in facts.recipe
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_teacher_of_other_classes_and_views_without_one_are_refused(
    data: Path, tmp_path: Path
) -> None:
    run = options(data, tmp_path / "w.onnx")
    with pytest.raises(UsageError, match="knows other classes"):
        train(replace(run, teacher=(FACE_WEIGHTS,)), lambda progress: None)
    with pytest.raises(UsageError, match="--views keeps what teachers say: name one"):
        train(replace(run, views=3), lambda progress: None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_and_auto_takes_the_cpu() -> None:
    with pytest.raises(UsageError, match="--device cuda: torch finds no CUDA device"):
        choose_device("cuda")
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")


def test_decay_pulls_at_weights_and_never_at_norms_and_biases() -> None:
    network = build_network("emotion_net", 8, {"channels": [8], "blocks": [1]})
    run = TrainOptions("emotion_net", (), Path("w.onnx"), weight_decay=0.01)
    decayed, rest = begin(network, run, 10, torch.device("cpu")).optimizer.param_groups
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.01, 0)
    assert {each.ndim for each in decayed["params"]} == {2, 4}
    assert {each.ndim for each in rest["params"]} == {1}
    assert len(decayed["params"]) + len(rest["params"]) == len(list(network.parameters()))


def test_the_sizes_of_a_network_are_flags_and_facts_of_its_file(data: Path, tmp_path: Path) -> None:
    run = options(data, tmp_path / "w.onnx", epochs=1)
    facts = train(run, lambda progress: None)
    assert facts.sizes["channels"] == [8, 16]
    assert facts.sizes["attention"] is False
    assert "--sizes channels=8,16 blocks=1,1 attention=no shortcut=convolution" in facts.recipe
    assert facts.class_shares == {name: 0.5 if name in NAMES else 0 for name in EMOTIONS}
    again = replace(run, init=run.output, sizes=(), output=tmp_path / "again.onnx")
    assert train(again, lambda progress: None).sizes == facts.sizes


def test_a_training_can_begin_on_small_pictures(data: Path, tmp_path: Path) -> None:
    small = replace(options(data, tmp_path / "small.onnx", epochs=1), side=16)
    facts = train(small, lambda progress: None)
    assert facts.input_size == 16
    assert "--side 16" in facts.recipe
    whole = replace(small, side=32, init=small.output, sizes=(), output=tmp_path / "w.onnx")
    assert train(whole, lambda progress: None).input_size == 32
    with pytest.raises(UsageError, match="--side 16: custom_net takes no such pictures"):
        train(replace(small, network="custom_net", sizes=()), lambda progress: None)


def test_dropout_and_mirroring_are_chosen_by_flags(data: Path, tmp_path: Path) -> None:
    def losses(run: TrainOptions) -> list[float | None]:
        told: list[float | None] = []
        train(run, lambda progress: told.append(progress.loss))
        return told

    run = options(data, tmp_path / "w.onnx", epochs=1)
    assert losses(run) != losses(replace(run, dropout=0.0, mirrored=True))
    facts = read_weights(run.output)[1]
    assert facts.mirrored
    assert "--dropout 0" in facts.recipe
    assert "--mirrored" in facts.recipe
