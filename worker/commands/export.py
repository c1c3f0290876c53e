"""Turn weights that were trained before (safetensors) into today's file.

example: emotion-worker export runs/mine.safetensors --output weights/mine.onnx
"""

import argparse
from dataclasses import replace
from pathlib import Path


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", type=Path, metavar="FILE", help="what `train` wrote, old or new")
    words = "the faces it was trained on, to state how often each emotion was among them"
    parser.add_argument("--data", type=Path, nargs="+", metavar="DIR", help=words)
    words = "default: beside it, as .onnx"
    parser.add_argument("--output", type=Path, metavar="FILE", help=words)


def run(options: argparse.Namespace) -> int:
    from worker.training.export import expect_output, export_network, load_network

    network, facts = load_network(options.weights)
    output = options.output or options.weights.with_suffix(".onnx")
    expect_output(output)
    if options.data:
        from worker.training.dataset import TRAIN_SPLIT, class_shares, load_splits

        votes = load_splits(options.data, TRAIN_SPLIT).votes
        facts = replace(facts, class_shares=class_shares(facts.classes, votes))
    export_network(output, network, facts)
    print(f"{output}: {facts.network}, {len(facts.classes)} classes, {facts.input_size} pixels")
    return 0
