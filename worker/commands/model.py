"""The commands of the model side: own data, training, evaluation. Thin, as in `worker.cli`."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from worker.commands.common import EXIT_FAILED, configure, new_alarm
from worker.errors import Stop, UsageError


def _crop(options: argparse.Namespace) -> int:
    config = configure(options)
    kept = config.database.keep_images
    if not options.sources and not kept:
        raise UsageError("crop: name images or folders, or set [database] keep_images")
    from worker.terminal import progress_bar, safe
    from worker.training.crop import crop_faces
    from worker.viewing.analyze import find_files

    sources = find_files(options.sources or [kept])
    with progress_bar() as progress:
        task = progress.add_task("cropping", total=len(sources))
        done = crop_faces(sources, config, options.output, lambda: progress.advance(task))
    for path, message in done.bad:
        print(f"{safe(path)}: {message}", file=sys.stderr)
    print(
        f"{options.output}: {done.faces} new faces of {done.images} images, "
        f"{done.duplicates} near-duplicates left out, {len(done.bad)} images could not be read"
    )
    return EXIT_FAILED if done.bad else 0


def _label(options: argparse.Namespace) -> int:
    alarm = new_alarm()
    from rich.console import Console

    from worker.terminal import show_table
    from worker.training.agreement import agreement_rows
    from worker.training.label import Ballot, create_app
    from worker.web import DemoServer

    with Ballot(options.folder) as ballot:
        with DemoServer(create_app(ballot), port=options.port) as server:
            print(f"label faces on {server.url}; stop with Ctrl-C", flush=True)
            while not alarm.stop_requested:
                alarm.wait(3600)
        votes = ballot.votes()
    rows = [(name, str(len(cast)), "") for name, cast in sorted(votes.items()) if cast]
    show_table("", ("who", "faces", "kappa"), [*rows, *agreement_rows(votes)], Console())
    return 0


def _train(options: argparse.Namespace) -> int:
    if options.prepare:
        return _prepare(options)
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

    run = TrainOptions(
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
        facts = train(run, report)
    print(
        f"{output}: validation accuracy {facts.validation_accuracy:.4f}, "
        f"temperature {facts.temperature:.3f}"
    )
    return 0


def _prepare(options: argparse.Namespace) -> int:
    from worker.training.fer2013 import prepare

    if options.output is None:
        raise UsageError("--prepare needs --output DIR")
    pixels, votes = options.prepare
    for split, faces in prepare(pixels, votes, options.output).items():
        print(f"{split}\t{faces} faces")
    return 0


def _evaluate_emotions(options: argparse.Namespace) -> int:
    config = configure(options)
    from worker.terminal import progress_bar
    from worker.training.evaluation import evaluate_emotions
    from worker.training.figures import draw_evaluation, show_evaluation

    weights = options.weights or config.classification.weights
    with progress_bar() as progress:
        [measured] = evaluate_emotions(options.data, options.split, [weights], progress)
    show_evaluation(measured.figures)
    _write_json(options.json, measured.figures)
    if options.plots:
        draw_evaluation(measured, options.plots)
    return 0


def _evaluate_faces(options: argparse.Namespace) -> int:
    config = configure(options)
    from worker.analysis.classification import Classifier
    from worker.analysis.detection import FACE_WEIGHTS, search_settings
    from worker.terminal import progress_bar
    from worker.training.face_evaluation import evaluate_faces, mine_windows
    from worker.training.plots import plot_detection

    settings, scorer = search_settings(config.detection), Classifier(FACE_WEIGHTS)
    with progress_bar() as progress:
        if options.mine:
            faces, others = mine_windows(
                options.data, settings, scorer, options.mine, progress, hard=options.hard
            )
            print(f"{options.mine}: {faces} windows of faces, {others} of none")
            return 0
        figures, curve = evaluate_faces(options.data, settings, scorer, progress, options.failures)
    for name, value in figures.items():
        print(f"{name}\t{value:.4g}" if isinstance(value, float) else f"{name}\t{value}")
    _write_json(options.json, figures)
    if options.plots:
        options.plots.mkdir(parents=True, exist_ok=True)
        plot_detection(curve, settings.min_confidence, options.plots / "detection.png")
    return 0


def _compare(options: argparse.Namespace) -> int:
    configure(options)
    from worker.terminal import progress_bar
    from worker.training.evaluation import evaluate_emotions
    from worker.training.figures import compare_figures, draw_comparison, show_comparison

    weights = options.weights or shipped_weights()
    with progress_bar() as progress:
        measured = evaluate_emotions(
            options.data, options.split, weights, progress, options.classes
        )
    figures = [compare_figures(each.figures) for each in measured]
    show_comparison(figures)
    _write_json(options.json, figures)
    if options.plots:
        draw_comparison(figures, options.plots)
    return 0


def shipped_weights() -> list[Path]:
    """The networks of weights/ that know emotions."""
    from worker.analysis.detection import FACE_WEIGHTS
    from worker.config import DEFAULT_WEIGHTS

    return sorted(set(DEFAULT_WEIGHTS.parent.glob("*.safetensors")) - {FACE_WEIGHTS})


def _write_json(path: Path | None, figures: object) -> None:
    if path:
        try:
            path.write_text(json.dumps(figures, indent=2) + "\n")
        except OSError as error:
            raise Stop(f"--json {path} cannot be written: {error.strerror}") from error


MODEL_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "crop": _crop,
    "label": _label,
    "train": _train,
    "emotions": _evaluate_emotions,
    "faces": _evaluate_faces,
    "compare": _compare,
}
