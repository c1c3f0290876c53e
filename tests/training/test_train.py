"""Training on a tiny data set made here: it learns, resumes, and writes usable weights."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from rich.progress import Progress, TaskID

from tests.processes import Call
from tests.training.toy_faces import NAMES, toy_faces, write_toy_data
from worker.analysis.classification import Classifier
from worker.analysis.face_net import FACE_WEIGHTS
from worker.analysis.weights_file import Facts, read_weights
from worker.cli import main
from worker.commands.compare import shipped_weights
from worker.config import PROJECT
from worker.errors import UsageError
from worker.record import EMOTIONS
from worker.training.export import load_network
from worker.training.networks import build_network
from worker.training.options import TrainOptions
from worker.training.train import State, train

SIZES = ("channels=8,16", "blocks=1,1", "attention=no", "shortcut=convolution")  # quick to train
WEIGHTS = PROJECT / "weights" / "custom_net.onnx"


class InterruptedRunError(Exception):
    pass


class Bar(Progress):
    """One that nobody sees, with what it was told; ``last``: the step that is interrupted."""

    def __init__(self, last: str = "") -> None:
        super().__init__(disable=True, console=Console(file=io.StringIO(), width=200))
        self.last, self.steps = last, [""]

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self.steps.append(self.tasks[0].description)
        if self.last and self.steps[-1].startswith(self.last):
            raise InterruptedRunError

    def lines(self) -> list[str]:
        assert isinstance(self.console.file, io.StringIO)
        return self.console.file.getvalue().splitlines()


def run(plan: TrainOptions) -> Facts:
    return train(plan, Bar())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def quick_average(monkeypatch: pytest.MonkeyPatch) -> None:
    # The running average needs hundreds of steps to catch up; a toy run has a dozen.
    monkeypatch.setattr("worker.training.train.AVERAGE_DECAY", 0.5)


def options(data: Path, output: Path, epochs: int = 3) -> TrainOptions:
    return TrainOptions(
        "emotion_net", (data,), output, epochs=epochs, batch_size=8, threads=1, sizes=SIZES
    )


def test_the_loss_falls_and_the_weights_name_what_they_were_trained_on(
    data: Path, tmp_path: Path
) -> None:
    bar = Bar()
    facts = train(options(data, tmp_path / "w.onnx", epochs=8), bar)
    losses = [float(line.split()[3].rstrip(",")) for line in bar.lines()]
    assert losses[7] < losses[0] / 2
    assert facts.validation_accuracy > 0.9
    assert bar.lines()[0].startswith("epoch 1/8: loss ")
    assert f"validation accuracy {facts.validation_accuracy:.4f}" in " ".join(bar.lines())
    assert "--network emotion_net" in facts.recipe
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.onnx", "w.png"]
    assert cv2.imread(str(tmp_path / "w.png")) is not None
    pictures, kinds = toy_faces(99, 20)
    classifier = Classifier(tmp_path / "w.onnx")
    named = [EMOTIONS[i] for i in classifier.classify(pictures).argmax(axis=1)]
    assert np.mean([a == b for a, b in zip(named, kinds, strict=True)]) > 0.9


def expect_same(first: Path, second: Path) -> None:
    states = [load_network(path)[0].state_dict() for path in (first, second)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.usefixtures("no_graph")
def test_an_interrupted_run_ends_with_the_same_weights(data: Path, tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole.onnx", tmp_path / "resumed.onnx"
    run(options(data, whole))
    with pytest.raises(InterruptedRunError):
        train(options(data, resumed), Bar(last="epoch 2/3, loss"))
    assert not resumed.exists()
    bar = Bar()
    train(options(data, resumed), bar)
    assert [line[:9] for line in bar.lines()] == ["epoch 2/3", "epoch 3/3"]
    expect_same(whole, resumed)


def test_the_checkpoint_of_another_run_is_not_taken(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError):
        train(options(data, tmp_path / "w.onnx"), Bar(last="epoch 2/3"))
    with pytest.raises(UsageError, match="is the checkpoint of another run"):
        run(options(data, tmp_path / "w.onnx", epochs=9))


@pytest.mark.parametrize("saved", [b"", b"garbage", {"command": "another version's"}, [1]])
def test_what_is_no_checkpoint_is_named(data: Path, tmp_path: Path, saved: object) -> None:
    checkpoint = tmp_path / "w.onnx.checkpoint"
    if isinstance(saved, bytes):
        checkpoint.write_bytes(saved)
    else:
        torch.save(saved, checkpoint)
    with pytest.raises(UsageError, match=r"w\.onnx\.checkpoint is no checkpoint that can be read"):
        run(options(data, tmp_path / "w.onnx"))


@pytest.mark.parametrize("name", ["", "w", "w.png", "w.onnx.png", "folder.onnx"])
def test_the_output_is_a_file_that_can_be_named_and_is_written_once(
    data: Path, tmp_path: Path, call: Call, name: str
) -> None:
    (tmp_path / "folder.onnx").mkdir()
    for command in (("train", "--data", str(data)), ("export", str(WEIGHTS))):
        done = call(*command, "--output", name)
        assert done.returncode == 2
        assert f"--output {Path(name)}: name a file that ends in .onnx" in done.stderr


def test_a_folder_that_takes_no_file_is_said_before_the_training(data: Path, call: Call) -> None:
    for command in (("train", "--data", str(data)), ("export", str(WEIGHTS))):
        done = call(*command, "--output", "/proc/none/w.onnx")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("emotion-worker: --output /proc/none/w.onnx: cannot write")


def test_too_little_data_and_unknown_networks_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too little to train on: 40 faces"):
        run(TrainOptions("emotion_net", (data,), tmp_path / "w.onnx", batch_size=64))
    with pytest.raises(UsageError, match="unknown network 'deep_net'; known: custom_net"):
        run(TrainOptions("deep_net", (data,), tmp_path / "w.onnx"))


def test_the_commands_train_and_evaluate_from_one_to_the_other(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, figures = tmp_path / "w.onnx", tmp_path / "figures.json"
    flags = ["--epochs", "1", "--batch-size", "8", "--output", str(weights), "--sizes", *SIZES]
    assert main(["train", "--data", str(data), *flags]) == 0
    printed = capsys.readouterr()
    assert "epoch 1/1: loss" in printed.err
    assert f"{weights}: validation accuracy" in printed.out
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


@pytest.mark.usefixtures("no_graph")
def test_a_run_can_begin_with_weights(data: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.onnx"
    taught_facts = run(options(data, first, epochs=8))
    assert taught_facts.validation_accuracy > 0.9
    still = replace(options(data, tmp_path / "w.onnx", epochs=1), learning_rate=1e-9)
    facts = run(replace(still, init=first, sizes=()))
    assert facts.validation_accuracy == taught_facts.validation_accuracy
    assert f"--init {first}" in facts.recipe

    with pytest.raises(UsageError, match=r"--init .* is a emotion_net with sizes of its own"):
        run(replace(still, init=first, network="emotion_net_small"))


def test_a_file_with_other_convolutions_is_no_beginning(data: Path, tmp_path: Path) -> None:
    plain = options(data, tmp_path / "w.onnx", epochs=1)
    plan = replace(plain, network="vgg_net", side=16, sizes=())
    for name, content, says in (
        ("none.pth", None, "no readable state dict"),
        ("junk.pth", b"junk", "no readable state dict"),
        ("list.pth", [1], "no readable state dict"),
        ("other.pth", {"features.0.weight": torch.zeros(8, 3, 3, 3)}, "none of its convolutions"),
    ):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            torch.save(content, path)
        with pytest.raises(UsageError, match=f"(?s)--init .*{name}.*{says}"):
            run(replace(plan, init=path))


@pytest.mark.usefixtures("no_graph")
def test_a_pupil_learns_from_stored_views_and_goes_on_where_it_was_interrupted(
    data: Path, tmp_path: Path
) -> None:
    teacher, one, two = (tmp_path / name for name in ("teacher.onnx", "one", "two"))
    run(options(data, teacher, epochs=8))
    pupil = replace(options(data, one / "w.onnx", epochs=4), teacher=(teacher,), views=2)
    bar = Bar()
    facts = train(pupil, bar)
    assert "2 of 2 views of 40 faces are to be made" in bar.lines()[0]
    assert bar.lines()[1].startswith("epoch 1/4")
    assert f"--teacher {teacher} --views 2" in facts.recipe
    [folder] = (path for path in one.iterdir() if path.is_dir())
    assert sorted(path.name for path in folder.iterdir()) == ["000.pt", "001.pt"]

    resumed = replace(pupil, output=two / "w.onnx")
    with pytest.raises(InterruptedRunError):
        train(resumed, Bar(last="epoch 2/4"))
    assert len(list(two.glob("views-*/*"))) == 2  # the second was there when it was stopped
    run(resumed)
    expect_same(pupil.output, resumed.output)


@pytest.mark.usefixtures("no_graph")
def test_teachers_that_are_asked_anew_each_time_need_no_views(data: Path, tmp_path: Path) -> None:
    weights = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for seed, path in enumerate(weights):
        run(replace(options(data, path, epochs=1), seed=seed))
    plan = replace(options(data, tmp_path / "w.onnx", epochs=8), teacher=tuple(weights), mixup=0.2)
    facts = run(plan)
    assert facts.validation_accuracy > 0.5
    assert f"--mixup 0.2 --teacher {weights[0]} {weights[1]}" in facts.recipe
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_teacher_of_other_classes_and_views_without_one_are_refused(
    data: Path, tmp_path: Path
) -> None:
    plan = options(data, tmp_path / "w.onnx")
    with pytest.raises(UsageError, match="knows other classes"):
        run(replace(plan, teacher=(FACE_WEIGHTS,)))
    with pytest.raises(UsageError, match="--views keeps what teachers say: name one"):
        run(replace(plan, views=3))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--device cuda: torch finds no CUDA device"):
        run(replace(options(data, tmp_path / "w.onnx"), device="cuda"))


def test_decay_pulls_at_weights_and_never_at_norms_and_biases() -> None:
    network = build_network("emotion_net", 8, {"channels": [8], "blocks": [1]})
    plan = TrainOptions("emotion_net", (), Path("w.onnx"), weight_decay=0.01)
    decayed, rest = State(network, plan, 10).optimizer.param_groups
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.01, 0)
    assert {each.ndim for each in decayed["params"]} == {2, 4}
    assert {each.ndim for each in rest["params"]} == {1}
    assert len(decayed["params"]) + len(rest["params"]) == len(list(network.parameters()))


@pytest.mark.usefixtures("no_graph")
def test_the_sizes_of_a_network_are_flags_and_facts_of_its_file(data: Path, tmp_path: Path) -> None:
    plan = options(data, tmp_path / "w.onnx", epochs=1)
    facts = run(plan)
    assert facts.sizes["channels"] == [8, 16]
    assert facts.sizes["attention"] is False
    assert "--sizes channels=8,16 blocks=1,1 attention=no shortcut=convolution" in facts.recipe
    assert facts.class_shares == {name: 0.5 if name in NAMES else 0 for name in EMOTIONS}
    again = replace(plan, init=plan.output, sizes=(), output=tmp_path / "again.onnx")
    assert run(again).sizes == facts.sizes


@pytest.mark.parametrize(
    ("sizes", "why"),
    [
        ("channels=8,8 blocks=1,1 atention=no", "there is no 'atention'; "),
        ("foo", "there is no 'foo'; "),
        ("=", "there is no ''; "),
        ("attention=no", ""),
        ("channels=yes blocks=1", ""),
        ("channels=abc blocks=1", "channels, blocks and stem must be whole numbers up to 4096; "),
        ("channels=8,² blocks=1,1", "channels, blocks and stem must be whole numbers up to 4096; "),
        ("channels= blocks=", "channels, blocks and stem must be whole numbers up to 4096; "),
        ("channels=0 blocks=1", "channels must be 8 or more, blocks 1 or more; "),
        ("channels=8,8 blocks=1", "channels and blocks must have one number for each stage; "),
        ("channels=8 blocks=1 stem=1,2", "channels, blocks and stem must be whole numbers up to "),
        ("channels=8 blocks=1 attention=none", "stem_stride must be 1 or 2, attention yes or no; "),
    ],
)
def test_sizes_that_cannot_be_are_said_with_the_flag_and_an_example(
    sizes: str, why: str, data: Path, tmp_path: Path, call: Call
) -> None:
    said = call("train", "--data", str(data), "--output", "w.onnx", "--sizes", *sizes.split())
    assert said.returncode == 2
    assert said.stderr.startswith(f"emotion-worker: sizes of emotion_net (train --sizes): {why}")
    assert "give such as channels=16,48,128 blocks=1,1,1; known: channels, blocks" in said.stderr
    assert not [*tmp_path.glob("*.onnx*")]


def test_one_stage_is_a_network_as_well() -> None:
    plan = TrainOptions("emotion_net", (), Path("w.onnx"), sizes=("channels=8", "blocks=1"))
    assert plan.chosen_sizes() == {"channels": [8], "blocks": [1]}
    assert build_network("emotion_net", 8, plan.chosen_sizes())


@pytest.mark.usefixtures("no_graph")
def test_a_training_can_begin_on_small_pictures(data: Path, tmp_path: Path) -> None:
    small = replace(options(data, tmp_path / "small.onnx", epochs=1), side=16)
    facts = run(small)
    assert facts.input_size == 16
    assert "--side 16" in facts.recipe
    whole = replace(small, side=32, init=small.output, sizes=(), output=tmp_path / "w.onnx")
    assert run(whole).input_size == 32
    with pytest.raises(UsageError, match="--side 16: custom_net takes no such pictures"):
        run(replace(small, network="custom_net", sizes=()))


@pytest.mark.usefixtures("no_graph")
def test_dropout_and_mirroring_are_chosen_by_flags(data: Path, tmp_path: Path) -> None:
    def losses(plan: TrainOptions) -> list[str]:
        bar = Bar()
        train(plan, bar)
        return bar.steps

    plan = options(data, tmp_path / "w.onnx", epochs=1)
    assert losses(plan) != losses(replace(plan, dropout=0.0, mirrored=True))
    facts = read_weights(plan.output)[1]
    assert facts.mirrored
    assert "--dropout 0" in facts.recipe
    assert "--mirrored" in facts.recipe
