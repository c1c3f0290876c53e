"""Measure a network on labelled data: its emotions, or the faces that are found.

example: emotion-worker evaluate emotions --data ferplus/ --split FER2013Valid --plots plots/
"""

import argparse
from pathlib import Path

from worker.commands.common import add_data, add_split, configure, write_json
from worker.hints import fraction


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s emotions|faces [options]"
    subjects = parser.add_subparsers(
        prog=parser.prog, metavar="SUBJECT", required=True, help="emotions or faces"
    )
    emotions = subjects.add_parser("emotions", description=measure_emotions.__doc__)
    emotions.set_defaults(measure=measure_emotions)
    add_split(emotions)
    emotions.add_argument("--weights", type=Path, metavar="FILE", help="default: worker.ini's")

    faces = subjects.add_parser("faces", description=measure_faces.__doc__)
    faces.set_defaults(measure=measure_faces)
    add_data(faces, "images/ and boxes.csv")
    add = faces.add_argument
    add("--failures", type=Path, metavar="DIR", help="pictures with what was missed or false")
    add("--mine", type=Path, metavar="DIR", help="instead, write windows to train face_net on")
    add("--hard", type=fraction, default=0.0, help="mine what face_net is so wrong about; 0: all")


def run(options: argparse.Namespace) -> int:
    options.measure(options)
    return 0


def measure_emotions(options: argparse.Namespace) -> None:
    """Accuracy, calibration and speed on labelled faces.

    example: emotion-worker evaluate emotions --data ferplus/ --split FER2013Valid --plots plots/
    """
    wanted = configure(options).classification
    from worker.training.evaluation import evaluate_emotions
    from worker.training.figures import show_evaluation

    weights = options.weights or wanted.weights
    [figures] = evaluate_emotions(options.data, options.split, [weights], wanted)
    show_evaluation(figures)
    write_json(options.json, figures)
    if options.plots:
        from worker.training.plots import plot_confusion, plot_reliability

        plot_confusion(figures, options.plots / "confusion.png")
        plot_reliability(figures, options.plots / "reliability.png")


def measure_faces(options: argparse.Namespace) -> None:
    """How many faces are found, and how many of what is found are none.

    example: emotion-worker evaluate faces --data DIR --failures failures/
    """
    config = configure(options)
    from worker.analysis.detection import search_settings
    from worker.analysis.face_net import FACE_WEIGHTS, FaceNet
    from worker.terminal import progress_bar
    from worker.training.face_evaluation import draw_detection, evaluate_faces, mine_windows

    settings, face_net = search_settings(config.detection), FaceNet(FACE_WEIGHTS)
    with progress_bar() as progress:
        if options.mine:
            faces, others = mine_windows(
                options.data, settings, face_net, options.mine, progress, hard=options.hard
            )
            print(f"{options.mine}: {faces} windows of faces, {others} of none")
            return
        measured = evaluate_faces(options.data, settings, face_net, progress, options.failures)
    for name, value in measured.figures.items():
        numbers = value if isinstance(value, list) else [value]
        print(name, *(f"{n:.4g}" if isinstance(n, float) else n for n in numbers), sep="\t")
    write_json(options.json, measured.figures)
    if options.plots:
        draw_detection(measured, settings.min_confidence, options.plots)
