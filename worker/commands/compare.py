"""Several networks side by side on labelled data.

example: emotion-worker compare --data ferplus/ --split FER2013Valid --plots plots/
"""

import argparse
from pathlib import Path

from worker.commands.common import add_configuration, add_split, configure, emotion, write_json


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_split(parser)
    add = parser.add_argument
    add("--weights", type=Path, nargs="+", metavar="FILE", help="default: all of weights/")
    words = "only faces of these; default: all"
    add("--classes", type=emotion, nargs="+", default=(), help=words)
    words = "draw fer, face-api and human as well, as measured on FER+ test faces"
    add("--peers", action="store_true", help=words)
    add_configuration(parser)


def run(options: argparse.Namespace) -> int:
    expected = configure(options).classification.expected
    from worker.terminal import progress_bar
    from worker.training.evaluation import evaluate_emotions
    from worker.training.figures import compare_figures, draw_comparison, show_comparison

    weights = options.weights or shipped_weights()
    with progress_bar() as progress:
        measured = evaluate_emotions(
            options.data, options.split, weights, progress, options.classes, expected
        )
    figures = [compare_figures(each.figures) for each in measured]
    show_comparison(figures)
    write_json(options.json, figures)
    if options.plots:
        draw_comparison(figures, options.plots, peers=options.peers)
    return 0


def shipped_weights() -> list[Path]:
    """The networks of weights/ that know emotions."""
    from worker.analysis.detection import FACE_WEIGHTS
    from worker.files import WEIGHTS

    return sorted(set(WEIGHTS.glob("*.onnx")) - {FACE_WEIGHTS})
