"""Train a network; goes on with what was interrupted.

example: emotion-worker train --init weights/emotion_net.onnx --data faces/ --output mine.onnx
"""

import argparse
from dataclasses import fields
from pathlib import Path

from worker.errors import UsageError


def add_flags(parser: argparse.ArgumentParser) -> None:
    from worker.training.options import TrainOptions

    add = parser.add_argument
    add("--network", help="default: that of --init, else emotion_net")
    words = "FER+ layout, or a folder for each emotion; several are put together"
    add("--data", type=Path, nargs="+", metavar="DIR", help=words)
    add("--output", type=Path, metavar="FILE", required=True, help="the weights to write")
    for option in fields(TrainOptions)[3:]:
        add(f"--{option.name.replace('_', '-')}", default=option.default, **option.metadata)
    words, files = "only make the FER+ layout in --output DIR", ("FER2013.CSV", "FER2013NEW.CSV")
    add("--prepare", type=Path, nargs=2, metavar=files, help=words)


def run(options: argparse.Namespace) -> int:
    flags = vars(options)
    if files := flags.pop("prepare"):
        from worker.training.fer2013 import prepare

        pixels, votes = files
        for split, faces in prepare(pixels, votes, options.output).items():
            print(f"{split}\t{faces} faces")
        return 0
    if options.data is None:
        raise UsageError("train needs --data DIR (or --prepare, which makes such a folder)")
    from worker.analysis.weights_file import read_weights
    from worker.terminal import progress_bar
    from worker.training.options import TrainOptions
    from worker.training.train import STATE_DICTS, train

    if options.init and not options.init.is_file():
        raise UsageError(f"--init: there is no file {options.init}")
    if options.init and options.output.resolve() == options.init.resolve():
        raise UsageError(f"--output {options.output} is what --init begins with; name another file")
    if options.network is None and options.init and options.init.suffix not in STATE_DICTS:
        options.network = read_weights(options.init)[1].network
    options.network = options.network or "emotion_net"
    with progress_bar() as bar:
        facts = train(TrainOptions(**flags), bar)
    accuracy, temperature = facts.validation_accuracy, facts.temperature
    print(f"{options.output}: validation accuracy {accuracy:.4f}, temperature {temperature:.3f}")
    return 0
