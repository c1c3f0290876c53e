"""Train a network on faces with votes, and write a weights file.

Targets are the vote distributions (Barsoum et al. 2016), or these mixed with what teachers say.
SGD with Nesterov momentum and one cycle of the learning rate (Smith 2018); what is validated and
kept is the running average of the weights. An interrupted run goes on from its last epoch and ends
with the same result.
"""

import io
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from worker.analysis.cropping import resize
from worker.analysis.weights_file import Facts
from worker.errors import UsageError
from worker.files import replace_file
from worker.training import dataset
from worker.training.augmentation import erase, mirror, mix_up
from worker.training.boxes import learn_boxes
from worker.training.evaluation import fit_temperature
from worker.training.export import Exported, expect_output, export_network, load_network
from worker.training.imagenet import adopt_convolutions
from worker.training.networks import build_network, classes_of, sizes_of
from worker.training.options import TrainOptions
from worker.training.plots import plot_learning
from worker.training.views import BATCH, Views, as_seen

STATE_DICTS = (".pth", ".pt")  # initial weights that another project trained
AVERAGE_DECAY = 0.999  # of the running average of the weights, a step; at first less
MOMENTUM = 0.9
PARTS = ("network", "average", "best", "optimizer", "schedule")  # each with a state dict

Tensors = tuple[Tensor, ...] | list[Tensor]


class State:
    """A network in training, for ``steps`` batches: what learns, what is averaged, how far it is.

    ``losses`` and ``accuracies``: one an epoch, the latter of ``average`` on validation faces.
    ``best``: ``average`` as it was after the epoch with the best of them.
    """

    def __init__(self, network: nn.Module, options: TrainOptions, steps: int) -> None:
        self.options = options
        self.network, self.best = network, deepcopy(network)
        self.average = AveragedModel(network, multi_avg_fn=_update_average, use_buffers=True)
        # Decay keeps weights small; a norm's scale or a bias that is pulled to zero only learns
        # less.
        decayed = [each for each in network.parameters() if each.ndim > 1]
        rest = [each for each in network.parameters() if each.ndim <= 1]
        rate, decay = options.learning_rate, options.weight_decay
        self.optimizer = SGD(decayed, rate, MOMENTUM, weight_decay=decay, nesterov=True)
        self.optimizer.add_param_group({"params": rest, "weight_decay": 0.0})
        self.schedule = OneCycleLR(self.optimizer, max_lr=rate, total_steps=steps)
        self.losses: list[float] = []
        self.accuracies: list[float] = []

    def learn(self, all_faces: Tensor, all_wanted: Tensor, side: int) -> Iterator[float]:
        """Learn from each face of a view once, in batches; gives the mean loss so far."""
        self.network.train()
        options, device, total = self.options, all_faces.device, 0.0
        order = torch.randperm(len(all_faces)).to(device).split(options.batch_size)
        batches = len(all_faces) // options.batch_size  # the rest is too few for a batch norm
        for number, chosen in enumerate(order[:batches], 1):
            faces = erase(mirror(all_faces[chosen].unsqueeze(1).float()), options.erase)
            faces, wanted = as_seen(faces, side), all_wanted[chosen]
            if options.mixup:
                faces, wanted = mix_up(faces, wanted, options.mixup)
            with torch.autocast(device.type, torch.bfloat16, enabled=options.bfloat16):
                logits = self.network(faces).float()
            loss = functional.cross_entropy(logits, wanted)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.average.update_parameters(self.network)
            total += loss.item()
            yield total / number

    def finish_epoch(self, loss: float, accuracy: float) -> None:
        """Keep what an epoch came to, and its average if it is the best so far."""
        self.losses.append(loss)
        self.accuracies.append(accuracy)
        if accuracy == max(self.accuracies):
            self.best.load_state_dict(self.average.module.state_dict())

    def save(self, path: Path) -> None:
        """Write all of it, and the command of the run, to ``path``."""
        saved: dict[str, Any] = {name: getattr(self, name).state_dict() for name in PARTS}
        saved |= {"losses": self.losses, "accuracies": self.accuracies}
        saved["command"] = self.options.command()
        content = io.BytesIO()
        torch.save(saved, content)
        replace_file(path, content.getvalue())

    def load(self, path: Path) -> None:
        """Go on from a checkpoint. Raises UsageError if another command wrote it, or another
        version of this program."""
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            saved = {name: saved[name] for name in (*PARTS, "losses", "accuracies", "command")}
        except Exception as error:  # a pickle that is none, or holds something else
            raise UsageError(f"{path} is no checkpoint that can be read; delete it") from error
        if saved["command"] != self.options.command():
            raise UsageError(
                f"{path} is the checkpoint of another run ({saved['command']}); "
                "delete it, or choose another --output"
            )
        for name in PARTS:
            getattr(self, name).load_state_dict(saved[name])
        self.losses, self.accuracies = saved["losses"], saved["accuracies"]


def _update_average(averaged: Tensors, current: Tensors, steps: Tensor | int) -> None:
    # Of few steps, as on one's own few faces, a slow average would be little but the beginning.
    decay = min(AVERAGE_DECAY, (1 + int(steps)) / (10 + int(steps)))
    get_ema_multi_avg_fn(decay)(averaged, current, steps)


def train(options: TrainOptions, bar: Progress) -> Facts:
    """Run (or resume) a training and write ``options.output``; ``bar`` shows where it is.

    The learning curves go to a PNG of the same name. A checkpoint stands beside the output until
    the run is complete. Raises UsageError for an unusable data set, an unknown network or device,
    initial weights that do not fit, or a checkpoint of another run; Stop if the disk is full.
    """
    expect_output(options.output)  # or that would be said after hours
    gpu = torch.cuda.is_available()
    if options.device == "cuda" and not gpu:
        raise UsageError("--device cuda: torch finds no CUDA device here; leave it out for the CPU")
    device = torch.device("cuda" if gpu and options.device != "cpu" else "cpu")
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    network, side = _untrained(options)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    lesson, faces, crops, labels = _load(options, side)
    crops = crops.to(device)
    views = Views(lesson, options, device)
    batches = len(lesson.crops) // options.batch_size
    state = State(network, options, steps=options.epochs * batches)
    checkpoint = options.output.with_name(options.output.name + ".checkpoint")
    if checkpoint.exists():
        state.load(checkpoint)
    if options.views:
        bar.console.print(views.cost(), soft_wrap=True, markup=False)
    judged, begun = Exported(state.average.module, options.mirrored), len(state.losses)
    task = bar.add_task("", total=options.epochs * batches, completed=begun * batches)
    for epoch in range(begun, options.epochs):
        # A seed for each epoch, so that a resumed run draws what an uninterrupted one would have.
        torch.manual_seed(options.seed * 100_003 + epoch)
        name = f"epoch {epoch + 1}/{options.epochs}"
        for loss in state.learn(*views.load(epoch, bar), side):
            bar.update(task, advance=1, description=f"{name}, loss {loss:.3f}")
        accuracy = float((predict_logits(judged, crops).argmax(axis=1) == labels).mean())
        state.finish_epoch(loss, accuracy)
        state.save(checkpoint)
        bar.console.print(f"{name}: loss {loss:.4f}, validation accuracy {accuracy:.4f}")
    learn_boxes(state.best, faces, side)
    logits = predict_logits(Exported(state.best, options.mirrored), crops)
    facts = Facts(
        network=options.network,
        classes=classes_of(options.network),
        input_size=side,
        temperature=fit_temperature(logits, labels),
        recipe=options.command(),
        validation_accuracy=max(state.accuracies),
        mirrored=options.mirrored,
        sizes=sizes_of(network),
        class_shares=dataset.class_shares(classes_of(options.network), faces.votes),
    )
    export_network(options.output, state.best.cpu(), facts)
    plot_learning(state.losses, state.accuracies, options.output.with_suffix(".png"))
    checkpoint.unlink()
    return facts


@torch.inference_mode()
def predict_logits(asked: Exported, crops: Tensor) -> NDArray[np.float32]:
    """Logits float32 ``(n, classes)`` of crops uint8 ``(n, side, side)``, without augmentation, by
    a network on the same device."""
    asked.eval()
    batches = [asked.look(batch)[0] for batch in crops.split(BATCH)]
    return torch.cat(batches).cpu().numpy()


def _untrained(options: TrainOptions) -> tuple[nn.Module, int]:
    """The network to train, with initial weights if they are given, and the side it takes."""
    if options.init and options.init.suffix not in STATE_DICTS:
        network, facts = load_network(options.init)
        if facts.network != options.network or options.sizes:
            raise UsageError(f"--init {options.init} is a {facts.network} with sizes of its own")
    else:
        classes = classes_of(options.network)
        network = build_network(options.network, len(classes), options.chosen_sizes())
        if options.init:
            adopt_convolutions(network, options.init)
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


def _load(
    options: TrainOptions, side: int
) -> tuple[dataset.Lesson, dataset.Faces, Tensor, NDArray[np.int64]]:
    """What is learned, and from which faces; validation faces that count, uint8
    ``(n, side, side)``, and their classes ``(n,)``."""
    classes = classes_of(options.network)
    faces = dataset.load_splits(options.data, dataset.TRAIN_SPLIT)
    valid = dataset.load_splits(options.data, dataset.VALID_SPLIT)
    lesson = dataset.lesson_for(classes, faces)
    labels = dataset.labels_for(classes, valid.votes)
    crops = [resize(crop, side) for crop in valid.crops[labels >= 0]]
    if len(lesson.crops) < options.batch_size or not crops:
        raise UsageError(
            f"{', '.join(map(str, options.data))}: too little to train on: {len(lesson.crops)} "
            f"faces with votes that count, {len(crops)} validation faces with a majority "
            f"(batch: {options.batch_size})"
        )
    return lesson, faces, torch.from_numpy(np.array(crops)), labels[labels >= 0]
