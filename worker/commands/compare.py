"""Several networks side by side on labelled data.

example: emotion-worker compare --data ferplus/ --split FER2013Valid --plots plots/
"""

import argparse
from pathlib import Path

from worker.commands.common import add_split, configure, write_json


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_split(parser)
    add = parser.add_argument
    add("--weights", type=Path, nargs="+", metavar="FILE", help="default: all of weights/")
    words = "draw fer, face-api and human as well, as measured on FER+ test faces"
    add("--peers", action="store_true", help=words)


def run(options: argparse.Namespace) -> int:
    wanted = configure(options).classification
    from worker.training.evaluation import evaluate_emotions
    from worker.training.figures import show_comparison

    weights = options.weights or shipped_weights()
    figures = evaluate_emotions(options.data, options.split, weights, wanted)
    show_comparison(figures)
    write_json(options.json, figures)
    if options.plots:
        from worker.training.plots import plot_comparison

        plot_comparison(figures, options.plots / "comparison.png", peers=options.peers)
    return 0


def shipped_weights() -> list[Path]:
    """The networks of weights/ that know emotions."""
    from worker.analysis.face_net import FACE_WEIGHTS
    from worker.files import WEIGHTS

    return sorted(set(WEIGHTS.glob("*.onnx")) - {FACE_WEIGHTS})
