"""Train a network on faces with votes, and write a weights file.

Targets are the vote distributions (Barsoum et al. 2016). SGD with Nesterov momentum and one cycle
of the learning rate (Smith 2018); what is validated and kept is the running average of the weights.
An interrupted run goes on from its last epoch and ends with the same result.
"""

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from worker.analysis.cropping import resize
from worker.analysis.weights_file import Facts
from worker.errors import UsageError
from worker.training.augmentation import augment
from worker.training.dataset import (
    TRAIN_SPLIT,
    VALID_SPLIT,
    Lesson,
    labels_for,
    lesson_for,
    load_splits,
)
from worker.training.evaluation import fit_temperature
from worker.training.export import WithMirror, export_network, load_network, normalise
from worker.training.imagenet import adopt_convolutions
from worker.training.networks import build_network, classes_of, sizes_of
from worker.training.plots import plot_learning

AVERAGE_DECAY = 0.998  # of the running average of the weights, a step; at first less
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
EVALUATION_BATCH = 256
STATE_DICTS = (".pth", ".pt")  # initial weights that another project trained
TEACHER_SHARE = 0.5  # of the loss; the votes have the rest


@dataclass(frozen=True)
class TrainOptions:
    """One training run.

    ``learning_rate`` is the peak; ``threads`` 0: torch decides; ``side``: pixels, 0: what the
    network wants (smaller ones make a cheap first part of a training); ``initial``: weights to
    begin with instead of random ones, ours or torchvision's VGG; ``teacher``: weights whose opinion
    is learned beside the votes; ``dropout``: of every dropout layer, None: the network's own (less
    of it suits a short schedule); ``mirrored``: as in `Facts`; ``bfloat16``: about 1.7 times faster
    on a CPU with avx512_bf16, slower on one without.
    """

    network: str
    data: tuple[Path, ...]
    output: Path
    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 0.05
    seed: int = 0
    threads: int = 0
    side: int = 0
    initial: Path | None = None
    teacher: Path | None = None
    dropout: float | None = None
    mirrored: bool = False
    bfloat16: bool = False

    def command(self) -> str:
        """The command that repeats this run, for the weights' facts; DIR stands for the data."""
        return (
            f"python run_worker.py train --network {self.network} "
            f"--data{' DIR' * len(self.data)} "
            f"--output {shlex.quote(self.output.name)} --epochs {self.epochs} "
            f"--batch-size {self.batch_size} --learning-rate {self.learning_rate:g} "
            f"--seed {self.seed}"
            + (f" --side {self.side}" if self.side else "")
            + (f" --init {shlex.quote(str(self.initial))}" if self.initial else "")
            + (f" --teacher {shlex.quote(str(self.teacher))}" if self.teacher else "")
            + (f" --dropout {self.dropout:g}" if self.dropout is not None else "")
            + (" --mirrored" if self.mirrored else "")
            + (" --bfloat16" if self.bfloat16 else "")
        )


@dataclass(frozen=True)
class Progress:
    """Where a run is. ``epoch`` counts from 1; ``accuracy`` is None until an epoch ends."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    accuracy: float | None
    seconds_left: float


@dataclass
class _State:
    """Everything that changes during a run; what a checkpoint holds."""

    network: nn.Module
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def save(self, path: Path, command: str) -> None:
        partial = path.with_name(path.name + ".partial")
        torch.save(
            {
                "command": command,
                "network": self.network.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "losses": self.losses,
                "accuracies": self.accuracies,
                "best_weights": self.best_weights,
            },
            partial,
        )
        partial.replace(path)

    def load(self, path: Path, command: str) -> None:
        saved: dict[str, Any] = torch.load(path, weights_only=True)
        if saved["command"] != command:
            raise UsageError(
                f"{path} is the checkpoint of another run ({saved['command']}); "
                "delete it, or choose another --output"
            )
        self.network.load_state_dict(saved["network"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        self.losses, self.accuracies = saved["losses"], saved["accuracies"]
        self.best_weights = saved["best_weights"]


def train(options: TrainOptions, report: Callable[[Progress], None]) -> Facts:
    """Run (or resume) a training and write ``options.output``; ``report`` is told after each batch.

    The learning curves go to a PNG of the same name. A checkpoint stands beside the output until
    the run is complete. Raises UsageError for an unusable data set, an unknown network, initial
    weights that do not fit, or a checkpoint of another run.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    network, side = _untrained(options)
    classes = classes_of(options.network)
    lesson = lesson_for(classes, load_splits(options.data, TRAIN_SPLIT))
    valid = load_splits(options.data, VALID_SPLIT)
    labels = labels_for(classes, valid.votes)
    valid_crops = np.array([resize(crop, side) for crop in valid.crops[labels >= 0]])
    labels = labels[labels >= 0]
    if len(lesson.crops) < options.batch_size or not len(labels):
        raise UsageError(
            f"{', '.join(map(str, options.data))}: too little to train on: {len(lesson.crops)} "
            f"faces with votes that count, {len(labels)} validation faces with a majority "
            f"(batch: {options.batch_size})"
        )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = options.output.with_name(options.output.name + ".checkpoint")
    state = _start(
        network, options, steps=options.epochs * (len(lesson.crops) // options.batch_size)
    )
    if checkpoint.exists():
        state.load(checkpoint, options.command())
    judged = WithMirror(state.average) if options.mirrored else state.average
    teacher = None
    if options.teacher:
        known, known_facts = load_network(options.teacher)
        if known_facts.classes != classes:
            raise UsageError(f"--teacher {options.teacher} knows other classes")
        teacher = Teacher(known, known_facts.input_size)
    while len(state.losses) < options.epochs:
        state.losses.append(_train_epoch(state, options, lesson, side, teacher, report))
        logits = predict_logits(judged, valid_crops)
        accuracy = float((logits.argmax(axis=1) == labels).mean())
        state.accuracies.append(accuracy)
        if accuracy == max(state.accuracies):
            averaged = state.average.module.state_dict()
            state.best_weights = {name: value.clone() for name, value in averaged.items()}
        state.save(checkpoint, options.command())
        report(Progress(len(state.losses), options.epochs, 0, 0, 0.0, accuracy, 0.0))

    state.average.module.load_state_dict(state.best_weights)
    logits = predict_logits(judged, valid_crops)
    facts = Facts(
        network=options.network,
        classes=classes,
        input_size=side,
        temperature=fit_temperature(logits, labels),
        recipe=options.command(),
        validation_accuracy=max(state.accuracies),
        mirrored=options.mirrored,
        sizes=sizes_of(state.network),
    )
    export_network(options.output, state.average.module, facts)
    plot_learning(state.losses, state.accuracies, options.output.with_suffix(".png"))
    checkpoint.unlink()
    return facts


def predict_logits(network: nn.Module, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits float32 ``(n, classes)`` of crops uint8 ``(n, side, side)``, without augmentation."""
    network.eval()
    with torch.inference_mode():
        batches = [
            network(normalise(torch.from_numpy(crops[start : start + EVALUATION_BATCH])))
            for start in range(0, len(crops), EVALUATION_BATCH)
        ]
    return torch.cat(batches).numpy()


@dataclass(frozen=True)
class Teacher:
    """A trained network, and the side in pixels of the faces that it knows."""

    network: nn.Module
    side: int

    def mix(self, faces: Tensor, votes: Tensor) -> Tensor:
        """What a pupil is to learn: votes ``(n, classes)``, mixed with what the teacher sees in the
        faces, float32 ``(n, 1, side, side)`` in gray levels (Hinton et al. 2015; at temperature 1,
        because the votes are a soft target already)."""
        with torch.no_grad():
            opinion = torch.softmax(self.network(_seen(faces, self.side)).float(), dim=1)
        return TEACHER_SHARE * opinion + (1 - TEACHER_SHARE) * votes


def _untrained(options: TrainOptions) -> tuple[nn.Module, int]:
    """The network to train, with initial weights where they are given, and the side it takes."""
    classes = classes_of(options.network)
    network = build_network(options.network, len(classes))
    if options.initial and options.initial.suffix in STATE_DICTS:
        adopt_convolutions(network, options.initial)
    elif options.initial:
        initial, facts = load_network(options.initial)
        if (facts.network, facts.classes) != (options.network, classes):
            raise UsageError(
                f"--init {options.initial} is a {facts.network} for {', '.join(facts.classes)}; "
                f"wanted: {options.network} for {', '.join(classes)}"
            )
        network.load_state_dict(initial.state_dict())
    for layer in network.modules():
        if isinstance(layer, nn.Dropout) and options.dropout is not None:
            layer.p = options.dropout
    side = options.side or network.input_size
    assert isinstance(side, int)
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, 1, side, side))
    except RuntimeError as error:
        raise UsageError(f"--side {side}: {options.network} takes no such pictures") from error
    return network, side


def _seen(faces: Tensor, side: int) -> Tensor:
    """Faces float32 ``(n, 1, any, any)`` as a network for this side is shown them."""
    if faces.shape[-1] != side:
        faces = functional.interpolate(faces, size=(side, side), mode="bilinear", antialias=True)
    return normalise(faces.squeeze(1)).contiguous(memory_format=torch.channels_last)


def _start(network: nn.Module, options: TrainOptions, steps: int) -> _State:
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AveragedModel(network, multi_avg_fn=_update_average, use_buffers=True)
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=options.learning_rate,
        momentum=MOMENTUM,
        nesterov=True,
        weight_decay=WEIGHT_DECAY,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=options.learning_rate, total_steps=steps
    )
    return _State(network, average, optimizer, schedule)


Tensors = tuple[Tensor, ...] | list[Tensor]


def _update_average(averaged: Tensors, current: Tensors, steps: Tensor | int) -> None:
    # Of few steps, as on one's own few faces, a slow average would be little but the beginning.
    decay = min(AVERAGE_DECAY, (1 + int(steps)) / (10 + int(steps)))
    get_ema_multi_avg_fn(decay)(averaged, current, steps)


def _train_epoch(
    state: _State,
    options: TrainOptions,
    lesson: Lesson,
    side: int,
    teacher: Teacher | None,
    report: Callable[[Progress], None],
) -> float:
    """Mean loss of the epoch."""
    epochs_done = len(state.losses)
    # A seed for each epoch, so that a resumed run draws what an uninterrupted one would have drawn.
    torch.manual_seed(options.seed * 100_003 + epochs_done)
    state.network.train()
    crops, targets = torch.from_numpy(lesson.crops), torch.from_numpy(lesson.targets)
    batches = len(crops) // options.batch_size
    order = torch.randperm(len(crops))[: batches * options.batch_size]
    started, loss_sum = time.monotonic(), 0.0
    for number, batch in enumerate(order.view(batches, options.batch_size), 1):
        varied = augment(crops[batch].unsqueeze(1).float())
        wanted = targets[batch]
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
            logits = state.network(_seen(varied, side)).float()
            if teacher:
                wanted = teacher.mix(varied, wanted)
        loss = functional.cross_entropy(logits, wanted)
        state.optimizer.zero_grad()
        loss.backward()
        state.optimizer.step()
        state.schedule.step()
        state.average.update_parameters(state.network)
        loss_sum += loss.item()
        batches_left = (options.epochs - epochs_done) * batches - number
        report(
            Progress(
                epoch=epochs_done + 1,
                epochs=options.epochs,
                batch=number,
                batches=batches,
                loss=loss_sum / number,
                accuracy=None,
                seconds_left=(time.monotonic() - started) / number * batches_left,
            )
        )
    return loss_sum / batches
