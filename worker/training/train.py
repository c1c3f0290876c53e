"""Train a network on faces with votes, and write a weights file.

Targets are the vote distributions (Barsoum et al. 2016), or these mixed with what teachers say.
SGD with Nesterov momentum and one cycle of the learning rate (Smith 2018); what is validated and
kept is the running average of the weights. An interrupted run goes on from its last epoch and ends
with the same result.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from worker.analysis.cropping import resize
from worker.analysis.weights_file import Facts
from worker.errors import UsageError
from worker.training.augmentation import augment, erase, mirror, mix_up
from worker.training.dataset import (
    TRAIN_SPLIT,
    VALID_SPLIT,
    Faces,
    Lesson,
    class_shares,
    labels_for,
    lesson_for,
    load_splits,
)
from worker.training.evaluation import fit_temperature
from worker.training.export import WithMirror, export_network, load_network, normalise
from worker.training.imagenet import adopt_convolutions
from worker.training.networks import build_network, classes_of, sizes_of
from worker.training.options import TrainOptions
from worker.training.plots import plot_learning
from worker.training.state import State, begin
from worker.training.teachers import Teachers, as_seen, lesson_of
from worker.training.views import View, Views

EVALUATION_BATCH = 256
STATE_DICTS = (".pth", ".pt")  # initial weights that another project trained


@dataclass(frozen=True)
class Progress:
    """Where a run is. ``epoch`` counts from 1; ``accuracy`` is None until an epoch ends; ``note``:
    something to tell, and then nothing else counts. While a view is made, ``loss`` is None and
    ``batch`` of ``batches`` are its faces."""

    epoch: int
    epochs: int
    batch: int = 0
    batches: int = 0
    loss: float | None = None
    accuracy: float | None = None
    seconds_left: float = 0.0
    note: str = ""


Report = Callable[[Progress], None]


@dataclass(frozen=True)
class _Material:
    """What is learned from, on the device: ``crops`` uint8 ``(n, any, any)`` and ``votes`` float32
    ``(n, classes)``; the side that the network is shown; how often a part of
    a face is covered; teachers, and their views, if any."""

    crops: Tensor
    votes: Tensor
    side: int
    erase: float
    teachers: Teachers | None = None
    views: Views | None = None

    def batch(self, chosen: Tensor, view: View | None) -> tuple[Tensor, Tensor]:
        """Faces as the network sees them, and their targets ``(n, classes)``."""
        wanted = self.votes[chosen]
        if view:
            faces = mirror(view.faces[chosen].unsqueeze(1).float())
            wanted = lesson_of(view.opinions[chosen], wanted)
        else:
            faces = augment(self.crops[chosen].unsqueeze(1).float())
            if self.teachers:
                wanted = lesson_of(self.teachers.opinion(faces), wanted)
        return as_seen(erase(faces, self.erase), self.side), wanted


def train(options: TrainOptions, report: Report) -> Facts:
    """Run (or resume) a training and write ``options.output``; ``report`` is told after each batch.

    The learning curves go to a PNG of the same name. A checkpoint stands beside the output until
    the run is complete. Raises UsageError for an unusable data set, an unknown network or device,
    initial weights that do not fit, or a checkpoint of another run.
    """
    device = choose_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    network, side = _untrained(options)
    classes = classes_of(options.network)
    faces = load_splits(options.data, TRAIN_SPLIT)
    lesson = lesson_for(classes, faces)
    crops, labels = _validation(options, classes, side)
    if len(lesson.crops) < options.batch_size or not len(labels):
        raise UsageError(
            f"{', '.join(map(str, options.data))}: too little to train on: {len(lesson.crops)} "
            f"faces with votes that count, {len(labels)} validation faces with a majority "
            f"(batch: {options.batch_size})"
        )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = options.output.with_name(options.output.name + ".checkpoint")
    steps = options.epochs * (len(lesson.crops) // options.batch_size)
    state = begin(network, options, steps, device)
    if checkpoint.exists():
        state.load(checkpoint, options.command())
    material = _material(options, lesson, side, device)
    if material.views:
        report(Progress(0, options.epochs, note=material.views.cost()))
    judged = WithMirror(state.average) if options.mirrored else state.average
    while len(state.losses) < options.epochs:
        loss = _train_epoch(state, options, material, report)
        logits = predict_logits(judged, crops, device)
        accuracy = float((logits.argmax(axis=1) == labels).mean())
        state.finish_epoch(loss, accuracy)
        state.save(checkpoint, options.command())
        report(Progress(len(state.losses), options.epochs, loss=loss, accuracy=accuracy))
    facts = _finish(state, options, side, (crops, labels), faces)
    checkpoint.unlink()
    return facts


def choose_device(name: str) -> torch.device:
    """The device called cpu, cuda or auto. Raises UsageError for a cuda that is not there."""
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UsageError("--device cuda: torch finds no CUDA device here; leave it out for the CPU")
    if name != "cpu" and there:
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
        return torch.device("cuda")
    return torch.device("cpu")


def predict_logits(
    network: nn.Module, crops: NDArray[np.uint8], device: torch.device
) -> NDArray[np.float32]:
    """Logits float32 ``(n, classes)`` of crops uint8 ``(n, side, side)``, without augmentation, by
    a network on ``device``."""
    network.eval()
    with torch.inference_mode():
        batches = [
            network(normalise(torch.from_numpy(crops[at : at + EVALUATION_BATCH]).to(device)))
            for at in range(0, len(crops), EVALUATION_BATCH)
        ]
    return torch.cat(batches).cpu().numpy()


def _untrained(options: TrainOptions) -> tuple[nn.Module, int]:
    """The network to train, with initial weights where they are given, and the side it takes."""
    classes = classes_of(options.network)
    if options.init and options.init.suffix not in STATE_DICTS:
        network, facts = load_network(options.init)
        if (facts.network, facts.classes) != (options.network, classes) or options.sizes:
            raise UsageError(
                f"--init {options.init} is a {facts.network} for {', '.join(facts.classes)}, with "
                f"sizes of its own; wanted: {options.network} for {', '.join(classes)}"
            )
        network.requires_grad_(requires_grad=True)
    else:
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


def _validation(
    options: TrainOptions, classes: tuple[str, ...], side: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Validation faces that count, uint8 ``(n, side, side)``, and their classes ``(n,)``."""
    valid = load_splits(options.data, VALID_SPLIT)
    labels = labels_for(classes, valid.votes)
    crops = [resize(crop, side) for crop in valid.crops[labels >= 0]]
    return np.array(crops, np.uint8), labels[labels >= 0]


def _material(options: TrainOptions, lesson: Lesson, side: int, device: torch.device) -> _Material:
    crops, votes = (torch.from_numpy(each).to(device) for each in (lesson.crops, lesson.targets))
    material = _Material(crops, votes, side, options.erase)
    if not options.teacher:
        if options.views:
            raise UsageError("--views keeps what teachers say: name one with --teacher")
        return material
    classes = classes_of(options.network)
    teachers = Teachers(options.teacher, classes, device, options.bfloat16)
    views = None
    if options.views:
        views = Views(options.output.parent, lesson.crops, teachers, options.views)
    return replace(material, teachers=teachers, views=views)


def _train_epoch(state: State, options: TrainOptions, material: _Material, report: Report) -> float:
    """Mean loss of the epoch."""
    done, device = len(state.losses), material.crops.device
    view = None
    if material.views:
        making = Progress(done + 1, options.epochs)
        view = material.views.load(
            done, lambda batch, batches: report(replace(making, batch=batch, batches=batches))
        )
    # A seed for each epoch, so that a resumed run draws what an uninterrupted one would have drawn.
    torch.manual_seed(options.seed * 100_003 + done)
    state.network.train()
    batches = len(material.crops) // options.batch_size
    order = torch.randperm(len(material.crops))[: batches * options.batch_size].to(device)
    started, loss_sum = time.monotonic(), 0.0
    for number, chosen in enumerate(order.view(batches, options.batch_size), 1):
        faces, wanted = material.batch(chosen, view)
        if options.mixup:
            faces, wanted = mix_up(faces, wanted, options.mixup)
        loss_sum += _step(state, faces, wanted, bfloat16=options.bfloat16)
        batches_left = (options.epochs - done) * batches - number
        seconds_left = (time.monotonic() - started) / number * batches_left
        report(
            Progress(
                epoch=done + 1,
                epochs=options.epochs,
                batch=number,
                batches=batches,
                loss=loss_sum / number,
                seconds_left=seconds_left,
            )
        )
    return loss_sum / batches


def _step(state: State, faces: Tensor, wanted: Tensor, *, bfloat16: bool) -> float:
    """One batch: learn from it, and say the loss."""
    with torch.autocast(faces.device.type, torch.bfloat16, enabled=bfloat16):
        logits = state.network(faces).float()
    loss = functional.cross_entropy(logits, wanted)
    state.optimizer.zero_grad()
    loss.backward()
    state.optimizer.step()
    state.schedule.step()
    state.average.update_parameters(state.network)
    return loss.item()


def _finish(
    state: State,
    options: TrainOptions,
    side: int,
    validation: tuple[NDArray[np.uint8], NDArray[np.int64]],
    faces: Faces,
) -> Facts:
    """Write the best weights with their facts, and draw the curves."""
    crops, labels = validation
    cpu = torch.device("cpu")
    network = state.average.module.to(cpu).eval()
    network.load_state_dict(state.best_weights)
    judged = WithMirror(network) if options.mirrored else network
    classes = classes_of(options.network)
    facts = Facts(
        network=options.network,
        classes=classes,
        input_size=side,
        temperature=fit_temperature(predict_logits(judged, crops, cpu), labels),
        recipe=options.command(),
        validation_accuracy=max(state.accuracies),
        mirrored=options.mirrored,
        sizes=sizes_of(network),
        class_shares=class_shares(classes, faces.votes),
    )
    export_network(options.output, network, facts)
    plot_learning(state.losses, state.accuracies, options.output.with_suffix(".png"))
    return facts
