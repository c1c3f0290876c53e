"""`train`: a network from labelled faces; and the layout that labelled faces come in."""

import argparse
from pathlib import Path

from worker.commands.common import fraction, positive
from worker.errors import UsageError

HELP = "train a network; goes on where it was interrupted"
EXAMPLE = "train --init weights/emotion_net.safetensors --data faces/ --output mine.safetensors"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--network", help="default: that of --init, else emotion_net")
    words = "FER+ layout, or a folder for each emotion; several are put together"
    parser.add_argument("--data", type=Path, nargs="+", metavar="DIR", help=words)
    words = "default: weights/NETWORK[_own].safetensors"
    parser.add_argument("--output", type=Path, metavar="FILE", help=words)
    for flag, kind, default, words in (
        ("--epochs", positive, 10, "how often each face is seen"),
        ("--batch-size", positive, 64, "no more than there are faces"),
        ("--learning-rate", float, 0.05, "peak; with --init take 0.005"),
        ("--seed", int, 0, "of all that is drawn by chance"),
        ("--threads", int, 0, "of the CPU; 0: all"),
        ("--side", int, 0, "pixels of a face; 0: what the network wants"),
    ):
        words = f"{words}; default: {default:g}"
        parser.add_argument(flag, type=kind, default=default, metavar="N", help=words)
    words = "begin with these weights; vgg_net also with a .pth of torchvision's VGG (ImageNet)"
    parser.add_argument("--init", type=Path, metavar="FILE", help=words)
    words = "weights to learn from as well"
    parser.add_argument("--teacher", type=Path, metavar="FILE", help=words)
    words = "0 to 1, of every dropout layer; default: the network's own"
    parser.add_argument("--dropout", type=fraction, help=words)
    words = "ask about each face and its mirror image: better, twice the time"
    parser.add_argument("--mirrored", action="store_true", help=words)
    words = "faster, on a CPU that computes in this format"
    parser.add_argument("--bfloat16", action="store_true", help=words)
    words = "only make the FER+ layout in --output DIR from the two files"
    files = ("FER2013.CSV", "FER2013NEW.CSV")
    parser.add_argument("--prepare", type=Path, nargs=2, metavar=files, help=words)


def run(options: argparse.Namespace) -> int:
    if options.prepare:
        return prepare(options)
    if options.data is None:
        raise UsageError("train needs --data DIR (or --prepare, which makes such a folder)")
    from worker.analysis.weights_file import read_weights

    network, output = options.network, options.output
    if options.init and not options.init.is_file():
        raise UsageError(f"--init: there is no file {options.init}")
    if network is None and options.init and options.init.suffix == ".safetensors":
        network = read_weights(options.init)[1].network
    network = network or "emotion_net"
    if output is None:
        output = Path("weights", f"{network}{'_own' if options.init else ''}.safetensors")
    if options.init and output.resolve() == options.init.resolve():
        raise UsageError(f"--output {output} is what --init begins with; name another file")
    from worker.training.progress import show_training
    from worker.training.train import TrainOptions, train

    plan = TrainOptions(
        network=network,
        data=tuple(options.data),
        output=output,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        seed=options.seed,
        threads=options.threads,
        side=options.side,
        initial=options.init,
        teacher=options.teacher,
        dropout=options.dropout,
        mirrored=options.mirrored,
        bfloat16=options.bfloat16,
    )
    with show_training(options.epochs) as report:
        facts = train(plan, report)
    print(
        f"{output}: validation accuracy {facts.validation_accuracy:.4f}, "
        f"temperature {facts.temperature:.3f}"
    )
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
