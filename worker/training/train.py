"""Train a network on faces with votes, and write a weights file.

Targets are the vote distributions (Barsoum et al. 2016). SGD with Nesterov momentum and one cycle
of the learning rate (Smith 2018); what is validated and kept is the running average of the weights.
An interrupted run goes on from its last epoch and ends with the same result.
"""

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from worker.emotions import EMOTIONS
from worker.errors import UsageError
from worker.networks import build_network
from worker.preprocessing import normalise
from worker.training.augmentation import augment
from worker.training.dataset import (
    Faces,
    load_split,
    majority_labels,
    target_distributions,
    usable_for_training,
)
from worker.training.evaluation import fit_temperature
from worker.weights_file import Facts, save_weights

TRAIN_SPLIT, VALID_SPLIT = "FER2013Train", "FER2013Valid"
AVERAGE_DECAY = 0.998  # of the running average of the weights, a step
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
EVALUATION_BATCH = 256


@dataclass(frozen=True)
class TrainOptions:
    """One training run; ``learning_rate`` is the peak, ``threads`` 0: torch decides."""

    network: str
    data: Path
    output: Path
    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 0.05
    seed: int = 0
    threads: int = 0

    def command(self) -> str:
        """The command that repeats this run, for the weights' facts; DIR stands for the data."""
        return (
            f"python run_worker.py train --network {self.network} --data DIR "
            f"--output {shlex.quote(self.output.name)} --epochs {self.epochs} "
            f"--batch-size {self.batch_size} --learning-rate {self.learning_rate:g} "
            f"--seed {self.seed}"
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
    epochs_done: int = 0
    best_accuracy: float = -1.0
    best_weights: dict[str, Tensor] | None = None

    def save(self, path: Path, command: str) -> None:
        partial = path.with_name(path.name + ".partial")
        torch.save(
            {
                "command": command,
                "network": self.network.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "epochs_done": self.epochs_done,
                "best_accuracy": self.best_accuracy,
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
        self.epochs_done = saved["epochs_done"]
        self.best_accuracy = saved["best_accuracy"]
        self.best_weights = saved["best_weights"]


def train(options: TrainOptions, report: Callable[[Progress], None]) -> Facts:
    """Run (or resume) a training and write ``options.output``; ``report`` is told after each batch.

    A checkpoint stands beside the output until the run is complete. Raises UsageError for an
    unusable data set, an unknown network, or a checkpoint of another run.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    train_faces = load_split(options.data, TRAIN_SPLIT)
    train_faces = train_faces.select(usable_for_training(train_faces.votes))
    valid_faces = load_split(options.data, VALID_SPLIT)
    labels = majority_labels(valid_faces.votes)
    valid_faces, labels = valid_faces.select(labels >= 0), labels[labels >= 0]
    if len(train_faces) < options.batch_size or not len(valid_faces):
        raise UsageError(
            f"{options.data}: too little to train on: {len(train_faces)} faces with emotion votes, "
            f"{len(valid_faces)} validation faces with a majority (batch: {options.batch_size})"
        )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = options.output.with_name(options.output.name + ".checkpoint")
    state = _start(options, batches=len(train_faces) // options.batch_size)
    if checkpoint.exists():
        state.load(checkpoint, options.command())
    while state.epochs_done < options.epochs:
        _train_epoch(state, options, train_faces, report)
        logits = predict_logits(state.average, valid_faces.crops)
        accuracy = float((logits.argmax(axis=1) == labels).mean())
        if accuracy > state.best_accuracy:
            state.best_accuracy = accuracy
            averaged = state.average.module.state_dict()
            state.best_weights = {name: value.clone() for name, value in averaged.items()}
        state.epochs_done += 1
        state.save(checkpoint, options.command())
        report(Progress(state.epochs_done, options.epochs, 0, 0, 0.0, accuracy, 0.0))

    assert state.best_weights is not None
    state.average.module.load_state_dict(state.best_weights)
    logits = predict_logits(state.average, valid_faces.crops)
    facts = Facts(
        network=options.network,
        classes=EMOTIONS,
        input_size=valid_faces.crops.shape[1],
        normalisation="per-face",
        temperature=fit_temperature(logits, labels),
        training_command=options.command(),
        validation_accuracy=state.best_accuracy,
    )
    arrays = {name: tensor.numpy() for name, tensor in state.best_weights.items()}
    save_weights(options.output, arrays, facts)
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


def _start(options: TrainOptions, batches: int) -> _State:
    torch.manual_seed(options.seed)
    network = build_network(options.network, len(EMOTIONS))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AveragedModel(
        network, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE_DECAY), use_buffers=True
    )
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=options.learning_rate,
        momentum=MOMENTUM,
        nesterov=True,
        weight_decay=WEIGHT_DECAY,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=options.learning_rate, total_steps=options.epochs * batches
    )
    return _State(network, average, optimizer, schedule)


def _train_epoch(
    state: _State, options: TrainOptions, faces: Faces, report: Callable[[Progress], None]
) -> None:
    # A seed for each epoch, so that a resumed run draws what an uninterrupted one would have drawn.
    torch.manual_seed(options.seed * 100_003 + state.epochs_done)
    state.network.train()
    crops = torch.from_numpy(faces.crops)
    targets = torch.from_numpy(target_distributions(faces.votes))
    batches = len(faces) // options.batch_size
    order = torch.randperm(len(faces))[: batches * options.batch_size]
    started, loss_sum = time.monotonic(), 0.0
    for number, batch in enumerate(order.view(batches, options.batch_size), 1):
        pictures = normalise(augment(crops[batch].unsqueeze(1).float()).squeeze(1))
        logits = state.network(pictures.contiguous(memory_format=torch.channels_last))
        loss = functional.cross_entropy(logits, targets[batch])
        state.optimizer.zero_grad()
        loss.backward()
        state.optimizer.step()
        state.schedule.step()
        state.average.update_parameters(state.network)
        loss_sum += loss.item()
        batches_left = (options.epochs - state.epochs_done) * batches - number
        report(
            Progress(
                epoch=state.epochs_done + 1,
                epochs=options.epochs,
                batch=number,
                batches=batches,
                loss=loss_sum / number,
                accuracy=None,
                seconds_left=(time.monotonic() - started) / number * batches_left,
            )
        )
