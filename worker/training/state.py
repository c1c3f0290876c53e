"""Everything that changes during a training run, and the checkpoint that holds it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from worker.errors import UsageError
from worker.training.options import TrainOptions

AVERAGE_DECAY = 0.999  # of the running average of the weights, a step; at first less
MOMENTUM = 0.9

Tensors = tuple[Tensor, ...] | list[Tensor]


@dataclass
class State:
    """A network in training: what learns, what is averaged, and how far it is.

    ``losses`` and ``accuracies``: one an epoch, the latter of ``average`` on validation faces.
    ``best_weights``: the state dict of ``average`` after the epoch with the best of them.
    """

    network: nn.Module
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def finish_epoch(self, loss: float, accuracy: float) -> None:
        self.losses.append(loss)
        self.accuracies.append(accuracy)
        if accuracy == max(self.accuracies):
            averaged = self.average.module.state_dict()
            self.best_weights = {name: value.cpu().clone() for name, value in averaged.items()}

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
        """Go on from a checkpoint. Raises UsageError where another command wrote it."""
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
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


def begin(network: nn.Module, options: TrainOptions, steps: int, device: torch.device) -> State:
    """A run of ``steps`` batches before its first one, on ``device``."""
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AveragedModel(network, multi_avg_fn=_update_average, use_buffers=True)
    # Decay keeps weights small; a norm's scale or a bias that is pulled to zero only learns less.
    weights = [each for each in network.parameters() if each.ndim > 1]
    rest = [each for each in network.parameters() if each.ndim <= 1]
    optimizer = torch.optim.SGD(
        [
            {"params": weights, "weight_decay": options.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ],
        lr=options.learning_rate,
        momentum=MOMENTUM,
        nesterov=True,
    )
    schedule = OneCycleLR(optimizer, max_lr=options.learning_rate, total_steps=steps)
    return State(network, average, optimizer, schedule)


def _update_average(averaged: Tensors, current: Tensors, steps: Tensor | int) -> None:
    # Of few steps, as on one's own few faces, a slow average would be little but the beginning.
    decay = min(AVERAGE_DECAY, (1 + int(steps)) / (10 + int(steps)))
    get_ema_multi_avg_fn(decay)(averaged, current, steps)
