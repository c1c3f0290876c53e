"""`export`: weights that were trained before ONNX as the one file that the worker runs."""

import argparse
from pathlib import Path

HELP = "turn weights that were trained before (safetensors) into today's file"
EXAMPLE = "export runs/mine.safetensors --output weights/mine.onnx"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", type=Path, metavar="FILE", help="what `train` wrote, old or new")
    words = "default: beside it, as .onnx"
    parser.add_argument("--output", type=Path, metavar="FILE", help=words)


def run(options: argparse.Namespace) -> int:
    from worker.training.export import export_network, load_network

    output = options.output or options.weights.with_suffix(".onnx")
    network, facts = load_network(options.weights)
    export_network(output, network, facts)
    print(f"{output}: {facts.network}, {len(facts.classes)} classes, {facts.input_size} pixels")
    return 0
