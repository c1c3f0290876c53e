"""Train a network; goes on with what was interrupted.

example: emotion-worker train --init weights/emotion_net.onnx --data faces/ --output mine.onnx
"""

import argparse
from dataclasses import fields
from pathlib import Path

from worker.commands.common import count, fraction, number
from worker.errors import UsageError


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--network", help="default: that of --init, else emotion_net")
    words = "FER+ layout, or a folder for each emotion; several are put together"
    add("--data", type=Path, nargs="+", metavar="DIR", help=words)
    words = "default: weights/NETWORK[_own].onnx"
    add("--output", type=Path, metavar="FILE", help=words)
    for flag, kind, default, words in (
        ("--epochs", count, 10, "how often each face is seen"),
        ("--batch-size", count, 64, "no more than there are faces"),
        ("--learning-rate", number(float, 0, 10), 0.05, "peak; with --init take 0.005"),
        ("--weight-decay", number(float, 0, 1), 5e-4, "of weights, not of norms and biases"),
        ("--mixup", number(float, 0, 10), 0, "how strongly faces are blended; 0: not at all"),
        ("--erase", fraction, 0.3, "how often a part of a face is covered, 0 to 1"),
        ("--views", number(int, 0, 999), 0, "views of a face, stored with what the teachers say"),
        ("--seed", int, 0, "of all that is drawn by chance"),
        ("--threads", number(int, 0, 1024), 0, "of the CPU; 0: all"),
        ("--side", number(int, 0, 1024), 0, "pixels of a face; 0: what the network wants"),
    ):
        words = f"{words}; default: {default:g}"
        add(flag, type=kind, default=default, metavar="N", help=words)
    words = "begin with these weights; vgg_net also with a .pth of torchvision's VGG (ImageNet)"
    add("--init", type=Path, metavar="FILE", help=words)
    words = "weights whose mean opinion is learned beside the votes"
    add("--teacher", type=Path, nargs="+", default=(), metavar="FILE", help=words)
    words = "of emotion_net and its kin, such as channels=16,48,128 blocks=1,1,1 attention=no"
    add("--sizes", nargs="+", default=(), metavar="KEY=VALUE", help=words)
    words = "0 to 1, of every dropout layer; default: the network's own"
    add("--dropout", type=fraction, help=words)
    words = "ask about each face and its mirror image: better, twice the time"
    add("--mirrored", action="store_true", help=words)
    add("--bfloat16", action="store_true", help="faster, on a GPU or a CPU that knows it")
    words = "where it runs; default: auto, a GPU if torch finds one"
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help=words)
    words, files = "only make the FER+ layout in --output DIR", ("FER2013.CSV", "FER2013NEW.CSV")
    add("--prepare", type=Path, nargs=2, metavar=files, help=words)


def run(options: argparse.Namespace) -> int:
    if options.prepare:
        return prepare(options)
    if options.data is None:
        raise UsageError("train needs --data DIR (or --prepare, which makes such a folder)")
    from worker.training.export import load_network
    from worker.training.options import TrainOptions
    from worker.training.progress import show_training
    from worker.training.train import STATE_DICTS, train

    network, output = options.network, options.output
    if options.init and not options.init.is_file():
        raise UsageError(f"--init: there is no file {options.init}")
    if network is None and options.init and options.init.suffix not in STATE_DICTS:
        network = load_network(options.init)[1].network
    network = network or "emotion_net"
    if output is None:
        output = Path("weights", f"{network}{'_own' if options.init else ''}.onnx")
    if options.init and output.resolve() == options.init.resolve():
        raise UsageError(f"--output {output} is what --init begins with; name another file")
    flags = vars(options) | {"network": network, "output": output}
    flags |= {name: tuple(flags[name]) for name in ("data", "teacher", "sizes")}
    plan = TrainOptions(**{field.name: flags[field.name] for field in fields(TrainOptions)})
    with show_training() as report:
        facts = train(plan, report)
    accuracy, temperature = facts.validation_accuracy, facts.temperature
    print(f"{output}: validation accuracy {accuracy:.4f}, temperature {temperature:.3f}")
    return 0


def prepare(options: argparse.Namespace) -> int:
    """Make the FER+ layout from Kaggle's and Microsoft's files."""
    from worker.training.fer2013 import prepare

    if options.output is None:
        raise UsageError("--prepare needs --output DIR")
    pixels, votes = options.prepare
    for split, faces in prepare(pixels, votes, options.output).items():
        print(f"{split}\t{faces} faces")
    return 0
