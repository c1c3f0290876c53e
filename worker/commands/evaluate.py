"""Measure a network on labelled data: its emotions, or the faces that are found.

example: emotion-worker evaluate emotions --data ferplus/ --split FER2013Valid --plots plots/
"""

import argparse
from pathlib import Path

from worker.commands.common import (
    add_configuration,
    add_data,
    add_split,
    configure,
    fraction,
    write_json,
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s emotions|faces [options]"
    subjects = parser.add_subparsers(
        prog=parser.prog, metavar="SUBJECT", required=True, help="emotions or faces"
    )
    emotions = subjects.add_parser("emotions", description=measure_emotions.__doc__)
    emotions.set_defaults(measure=measure_emotions)
    add_split(emotions)
    emotions.add_argument("--weights", type=Path, metavar="FILE", help="default: worker.ini's")
    add_configuration(emotions)

    faces = subjects.add_parser("faces", description=measure_faces.__doc__)
    faces.set_defaults(measure=measure_faces)
    add_data(faces, "images/ and boxes.csv")
    add = faces.add_argument
    add("--failures", type=Path, metavar="DIR", help="pictures with what was missed or false")
    words = "instead, write windows of these pictures to train face_net on"
    add("--mine", type=Path, metavar="DIR", help=words)
    words = "mine only what face_net is wrong about by so much; default: 0"
    add("--hard", type=fraction, default=0.0, help=words)
    add_configuration(faces)


def run(options: argparse.Namespace) -> int:
    code: int = options.measure(options)
    return code


def measure_emotions(options: argparse.Namespace) -> int:
    """Accuracy, calibration and speed on labelled faces.

    example: emotion-worker evaluate emotions --data ferplus/ --split FER2013Valid --plots plots/
    """
    config = configure(options)
    from worker.terminal import progress_bar
    from worker.training.evaluation import evaluate_emotions
    from worker.training.figures import draw_evaluation, show_evaluation

    weights = options.weights or config.classification.weights
    with progress_bar() as progress:
        [measured] = evaluate_emotions(
            options.data,
            options.split,
            [weights],
            progress,
            expected=config.classification.expected,
        )
    show_evaluation(measured.figures)
    write_json(options.json, measured.figures)
    if options.plots:
        draw_evaluation(measured, options.plots)
    return 0


def measure_faces(options: argparse.Namespace) -> int:
    """How many faces are found, and how many of what is found are none.

    example: emotion-worker evaluate faces --data DIR --failures failures/
    """
    config = configure(options)
    from worker.analysis.classification import Classifier
    from worker.analysis.detection import FACE_WEIGHTS, search_settings
    from worker.terminal import progress_bar
    from worker.training.face_evaluation import draw_detection, evaluate_faces, mine_windows

    settings, scorer = search_settings(config.detection), Classifier(FACE_WEIGHTS)
    with progress_bar() as progress:
        if options.mine:
            faces, others = mine_windows(
                options.data, settings, scorer, options.mine, progress, hard=options.hard
            )
            print(f"{options.mine}: {faces} windows of faces, {others} of none")
            return 0
        measured = evaluate_faces(options.data, settings, scorer, progress, options.failures)
    for name, value in measured.figures.items():
        numbers = value if isinstance(value, list) else [value]
        print(name, *(f"{n:.4g}" if isinstance(n, float) else n for n in numbers), sep="\t")
    write_json(options.json, measured.figures)
    if options.plots:
        draw_detection(measured, settings.min_confidence, options.plots)
    return 0
