"""Training on a tiny data set made here: it learns, resumes, and writes usable weights."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from worker.analysis.classification import Classifier
from worker.analysis.detection import FACE_WEIGHTS
from worker.analysis.weights_file import read_weights
from worker.cli import main
from worker.commands.compare import shipped_weights
from worker.config import PROJECT
from worker.errors import UsageError
from worker.record import EMOTIONS
from worker.training import train as train_module
from worker.training.dataset import REPEATS, Faces, repeat_rare
from worker.training.export import load_network
from worker.training.train import Progress, TrainOptions, train

NAMES = ("happiness", "anger")
WEIGHTS = PROJECT / "weights" / "custom_net.onnx"


class InterruptedRunError(Exception):
    pass


def toy(seed: int, count: int) -> tuple[np.ndarray, list[str]]:
    """Faces of two kinds that anything can tell apart: bright above, or bright below."""
    random = np.random.default_rng(seed)
    pictures = random.integers(0, 80, (count, 48, 48)).astype(np.uint8)
    kinds = [NAMES[i % 2] for i in range(count)]
    for picture, kind in zip(pictures, kinds, strict=True):
        half = slice(0, 24) if kind == "happiness" else slice(24, 48)
        picture[half] += 150
    return pictures, kinds


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for split, count in (("FER2013Train", 40), ("FER2013Valid", 16)):
        (folder / split).mkdir()
        pictures, kinds = toy(count, count)
        lines = []
        for i, (picture, kind) in enumerate(zip(pictures, kinds, strict=True)):
            cv2.imwrite(str(folder / split / f"{i}.png"), picture)
            votes = [0] * 10
            votes[EMOTIONS.index(kind)] = 10
            lines.append(f'{i}.png,"(0, 0, 48, 48)",{",".join(map(str, votes))}')
        (folder / split / "label.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(autouse=True)
def quick_average(monkeypatch: pytest.MonkeyPatch) -> None:
    # The running average needs hundreds of steps to catch up; a toy run has a dozen.
    monkeypatch.setattr(train_module, "AVERAGE_DECAY", 0.5)


def options(data: Path, output: Path, epochs: int = 3) -> TrainOptions:
    return TrainOptions("custom_net", (data,), output, epochs=epochs, batch_size=8, threads=1)


def test_the_loss_falls_and_the_weights_name_what_they_were_trained_on(
    data: Path, tmp_path: Path
) -> None:
    losses: dict[int, float] = {}

    def report(progress: Progress) -> None:
        if progress.accuracy is None:
            losses[progress.epoch] = progress.loss

    facts = train(options(data, tmp_path / "w.onnx", epochs=8), report)
    assert losses[8] < losses[1] / 2
    assert facts.validation_accuracy > 0.9
    assert "--network custom_net" in facts.recipe
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.onnx", "w.png"]
    assert cv2.imread(str(tmp_path / "w.png")) is not None
    pictures, kinds = toy(99, 20)
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
        train(TrainOptions(network, (data,), out, batch_size=batch_size), lambda progress: None)

    with pytest.raises(UsageError, match="too little to train on: 40 faces"):
        run("custom_net", 64)
    with pytest.raises(UsageError, match="unknown network 'deep_net'; known: custom_net"):
        run("deep_net", 8)


def test_the_commands_train_and_evaluate_from_one_to_the_other(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, figures = tmp_path / "w.onnx", tmp_path / "figures.json"
    train_flags = [
        "--network",
        "custom_net",
        "--epochs",
        "1",
        "--batch-size",
        "8",
        "--output",
        str(weights),
    ]
    assert main(["train", "--data", str(data), *train_flags]) == 0
    assert "epoch 1/1: loss" in capsys.readouterr().out
    split = ["--split", "FER2013Valid", "--weights", str(weights), "--json", str(figures)]
    assert main(["evaluate", "emotions", "--data", str(data), *split]) == 0
    written = json.loads(figures.read_text())
    assert (written["network"], written["samples"]) == ("custom_net", 16)
    lines = capsys.readouterr().out.splitlines()
    assert "16 faces: accuracy" in lines[0]
    assert [line.split("\t")[0] for line in lines[2:]] == list(EMOTIONS)

    plots = tmp_path / "plots"
    both = ["--weights", str(weights), str(WEIGHTS), "--json", str(figures), "--plots", str(plots)]
    assert main(["compare", "--data", str(data), "--split", "FER2013Valid", *both]) == 0
    compared = json.loads(figures.read_text())
    assert [each["weights"] for each in compared] == [str(weights), str(WEIGHTS)]
    assert compared[0]["bytes"] == weights.stat().st_size
    assert "| custom_net | " in capsys.readouterr().out
    nowhere = ["--weights", str(weights), "--json", str(tmp_path / "none" / "figures.json")]
    assert main(["compare", "--data", str(data), "--split", "FER2013Valid", *nowhere]) == 1
    assert "figures.json cannot be written" in capsys.readouterr().err
    drawn = ["--weights", str(weights), "--plots", str(plots), "--split", "FER2013Valid"]
    assert main(["evaluate", "emotions", "--data", str(data), *drawn]) == 0
    for name in ("comparison.png", "confusion.png", "reliability.png"):
        assert cv2.imread(str(plots / name)) is not None


def test_all_shipped_networks_that_know_emotions_are_compared() -> None:
    assert WEIGHTS in shipped_weights()
    for weights in shipped_weights():
        assert read_weights(weights)[1].classes == EMOTIONS


def test_a_run_can_begin_with_weights_and_learn_from_a_teacher(data: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.onnx"
    taught_facts = train(options(data, first, epochs=8), lambda progress: None)
    assert taught_facts.validation_accuracy > 0.9
    still = replace(options(data, tmp_path / "w.onnx", epochs=1), learning_rate=1e-9)
    facts = train(replace(still, initial=first), lambda progress: None)
    assert facts.validation_accuracy == taught_facts.validation_accuracy
    assert f"--init {first}" in facts.recipe

    with pytest.raises(UsageError, match=r"--init .* is a custom_net"):
        train(replace(still, initial=first, network="emotion_net_small"), lambda progress: None)


def test_a_file_with_other_convolutions_is_no_beginning(data: Path, tmp_path: Path) -> None:
    run = replace(options(data, tmp_path / "w.onnx", epochs=1), network="vgg_net", side=16)
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
            train(replace(run, initial=path), lambda progress: None)


def test_half_of_the_lesson_is_the_teachers_opinion() -> None:
    class Sure(torch.nn.Module):
        def forward(self, faces: torch.Tensor) -> torch.Tensor:
            assert faces.shape[1:] == (1, 6, 6)
            return torch.tensor([[0.0, 100.0]]).repeat(len(faces), 1)

    teacher = train_module.Teacher(Sure(), side=6)
    lesson = teacher.mix(torch.zeros(1, 1, 4, 4), torch.tensor([[1.0, 0.0]]))
    assert lesson.tolist() == [[0.5, 0.5]]


def test_a_teacher_of_other_classes_is_refused(data: Path, tmp_path: Path) -> None:
    wrong = replace(options(data, tmp_path / "w.onnx"), teacher=FACE_WEIGHTS)
    with pytest.raises(UsageError, match="knows other classes"):
        train(wrong, lambda progress: None)


def test_a_training_can_begin_on_small_pictures(data: Path, tmp_path: Path) -> None:
    small = replace(options(data, tmp_path / "small.onnx", epochs=1), network="vgg_net", side=16)
    facts = train(small, lambda progress: None)
    assert facts.input_size == 16
    assert "--side 16" in facts.recipe
    whole = replace(
        small, side=32, initial=small.output, output=tmp_path / "w.onnx", learning_rate=1e-9
    )
    assert train(whole, lambda progress: None).input_size == 32
    with pytest.raises(UsageError, match="--side 16: custom_net takes no such pictures"):
        train(replace(small, network="custom_net"), lambda progress: None)


def test_dropout_and_mirroring_are_chosen_by_flags(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    start = train_module._start

    def watch(network: torch.nn.Module, *rest: Any, **named: Any) -> Any:
        layers = network.modules()
        seen.extend(each.p for each in layers if isinstance(each, torch.nn.Dropout))
        return start(network, *rest, **named)

    monkeypatch.setattr(train_module, "_start", watch)
    run = options(data, tmp_path / "w.onnx", epochs=1)
    train(run, lambda progress: None)
    assert seen == [0.3] * 3
    seen.clear()
    facts = train(replace(run, dropout=0.0, mirrored=True), lambda progress: None)
    assert seen == [0.0] * 3
    assert facts.mirrored
    assert "--dropout 0 --mirrored" in facts.recipe
    assert read_weights(run.output)[1].mirrored


def test_rare_emotions_are_shown_more_often() -> None:
    votes = np.zeros((3, 10), int)
    votes[0, 0] = votes[1, EMOTIONS.index("disgust")] = 10
    votes[2, :2] = 5
    crops = np.arange(3, dtype=np.uint8).reshape(3, 1, 1).repeat(4, 1).repeat(4, 2)
    shown = repeat_rare(Faces(crops, votes))
    assert np.bincount(shown.crops[:, 0, 0]).tolist() == [1, REPEATS["disgust"], 1]
