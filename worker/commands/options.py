"""The flags of every command, and what `--help` says of them."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worker import __version__
from worker.record import EMOTIONS

Options = argparse._ActionsContainer  # a parser, or a group of one's flags
SEVERAL = "default: [database] path; several, such as results-*.json, are shown as one"

WORDS = {  # what a command does, and an example
    "run": (
        "run the daemon in the foreground (the default command)",
        "run --url http://127.0.0.1:5000 --interval 5",
    ),
    "once": (
        "drain what is there, try each owed post once, exit (for cron)",
        "once --url http://127.0.0.1:5000",
    ),
    "demo": (
        "a Flask server on loopback, photographs and the daemon at work",
        "demo",
    ),
    "demo-server": (
        "the reference Flask server alone",
        "demo-server pictures/ --port 5000 --threshold 0.3",
    ),
    "check": (
        "try configuration, weights, database and server",
        "check --config worker.ini",
    ),
    "results": (
        "look into the JSON file, or several as one",
        "results --emotion fear --since 2026-11-24 --csv",
    ),
    "report": (
        "the JSON file, or several, as one HTML page with plots, which needs no network",
        "report --since 2026-11-24 --output report.html",
    ),
    "crop": (
        "cut the faces out of images and folders, as training sees them",
        "crop holiday/ --output faces/",
    ),
    "label": (
        "a page on loopback to name the emotions of cropped faces",
        "label faces/ --port 5001",
    ),
    "analyze": (
        "images, videos and folders of them, without a server: what is on them",
        "analyze holiday/ clip.mp4 --every 0.5s --annotated drawn/ --threshold 0.4",
    ),
    "live": (
        "a camera or a video in real time: in a window, a file or a page",
        "live --source 0 --serve 127.0.0.1:8080",
    ),
    "train": (
        "train a network; goes on where it was interrupted",
        "train --init weights/emotion_net.safetensors --data faces/ --output runs/mine.safetensors",
    ),
    "emotions": (
        "accuracy, calibration and speed",
        "evaluate emotions --data ferplus/ --split FER2013Valid --json figures.json --plots plots/",
    ),
    "faces": (
        "how many faces are found, and how many of what is found are none",
        "evaluate faces --data DIR --set detection.profile=accurate --failures failures/",
    ),
    "compare": (
        "several networks side by side on labelled data",
        "compare --data ferplus/ --split FER2013Valid --plots plots/",
    ),
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of run_worker.py; its result names the command in ``command``."""
    parser = argparse.ArgumentParser(
        prog="run_worker.py",
        description="Pulls images from a server, finds faces, names their emotions, stores them.",
        epilog="`python run_worker.py COMMAND --help` shows each command with an example.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    _add(commands, "run")
    _add(commands, "once")
    demo = _add(commands, "demo")
    _path(demo, "--output", "DIR", "default: demo", default="demo")
    _path(demo, "--svg", "FILE", "also save what is shown as SVG")
    server = _add(commands, "demo-server")
    server.add_argument("folder", type=Path, nargs="*", help="folders of images to hand out")
    _number(server, "--port", int, 5000, "0: a free one")
    server.add_argument(
        "--threshold", type=_fraction, help="0..1; default: 0.5, or what is in force in Redis"
    )
    server.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; default: this machine alone"
    )
    server.add_argument(
        "--queue", metavar="URL", help="keep it in Redis, e.g. redis://127.0.0.1:6379/0"
    )
    _number(server, "--lease", float, 60, "seconds until an image is handed on")
    _add(commands, "check")
    results = _add(commands, "results")
    _path(results, "--database", "FILE", SEVERAL, nargs="+")
    results.add_argument("--last", type=_positive, metavar="N", help="only the last N")
    results.add_argument("--emotion", choices=EMOTIONS, help="a face reached the threshold for it")
    results.add_argument("--file", metavar="PATTERN", help="file names such as 'cam1*'")
    results.add_argument("--since", metavar="TIME", help="ISO 8601, UTC where no zone is given")
    results.add_argument("--until", metavar="TIME", help="up to, not including")
    _flag(results, "--follow", "go on with what comes; Ctrl-C ends")
    how = results.add_mutually_exclusive_group()
    _flag(how, "--counts", "only how many images, faces and emotions")
    _flag(how, "--json", "one record a line")
    _flag(how, "--csv", "one face a line")
    _flag(how, "--seed-format", '{"images": [...]}: name, threshold, faces')
    _flag(how, "--verify", "repair and check the file")
    report = _add(commands, "report")
    _path(report, "--database", "FILE", SEVERAL, nargs="+")
    report.add_argument("--since", metavar="TIME", help="ISO 8601, UTC where no zone is given")
    _path(report, "--output", "FILE", "default: report.html", default="report.html")
    crop = _add(commands, "crop")
    _path(crop, "sources", "SOURCE", "default: [database] keep_images", nargs="*")
    _path(crop, "--output", "DIR", "default: faces; may have some", default="faces")
    label = _add(commands, "label")
    _path(label, "folder", "DIR", "what `crop` wrote")
    _number(label, "--port", int, 5001, "0: a free one")
    analyze = _add(commands, "analyze")
    _path(analyze, "paths", "PATH", "images, videos, folders", nargs="+")
    _number(analyze, "--threshold", _fraction, 0.5, "0..1")
    _number(analyze, "--every", _seconds, 0.5, "seconds of a video for one record")
    _path(analyze, "--annotated", "DIR", "copies with faces drawn in")
    _path(analyze, "--database", "FILE", "append the records to it")
    _flag(analyze, "--json", "one record a line")
    live = _add(commands, "live")
    live.add_argument("--source", default="0", help="camera number, file or URL; default: 0")
    _number(live, "--threshold", _fraction, 0.5, "0..1")
    where = live.add_mutually_exclusive_group()
    _path(where, "--output", "FILE", "write it as FILE.mp4 instead")
    where.add_argument(
        "--serve", type=_address, metavar="HOST:PORT", help="show it on a page instead (MJPEG)"
    )
    train = _add(commands, "train")
    train.add_argument("--network", help="default: that of --init, else emotion_net")
    several = "FER+ layout, or a folder for each emotion; several are put together"
    _path(train, "--data", "DIR", several, nargs="+")
    _path(train, "--output", "FILE", "default: weights/NETWORK[_own].safetensors")
    _number(train, "--epochs", _positive, 10, "how often each face is seen")
    _number(train, "--batch-size", _positive, 64, "no more than there are faces")
    _number(train, "--learning-rate", float, 0.05, "peak; with --init take 0.005")
    _number(train, "--seed", int, 0, "of all that is drawn by chance")
    _number(train, "--threads", int, 0, "of the CPU; 0: all")
    _number(train, "--side", int, 0, "pixels of a face; 0: what the network wants")
    _path(
        train,
        "--init",
        "FILE",
        "begin with these weights; vgg_net also with a .pth of torchvision's VGG (ImageNet)",
    )
    _path(train, "--teacher", "FILE", "weights to learn from as well")
    words = "0..1, of every dropout layer; default: the network's own"
    train.add_argument("--dropout", type=_fraction, help=words)
    _flag(train, "--mirrored", "ask about each face and its mirror image: better, twice the time")
    _flag(train, "--bfloat16", "faster, on a CPU that computes in this format")
    train.add_argument(
        "--prepare",
        type=Path,
        nargs=2,
        metavar=("FER2013.CSV", "FER2013NEW.CSV"),
        help="only make the FER+ layout in --output DIR from the two files",
    )
    evaluate = commands.add_parser("evaluate", help="measure a network on labelled data")
    subjects = evaluate.add_subparsers(metavar="SUBJECT", required=True)
    emotions = _add(subjects, "emotions")
    _add_labelled(emotions)
    _path(emotions, "--weights", "FILE", "default: worker.ini's")
    faces = _add(subjects, "faces")
    _add_evaluation(faces, "images/ and boxes.csv")
    _path(faces, "--failures", "DIR", "pictures with what was missed or false")
    _path(faces, "--mine", "DIR", "instead, write windows of these pictures to train face_net on")
    _number(faces, "--hard", _fraction, 0.0, "mine only what face_net is wrong about by so much")
    compare = _add(commands, "compare")
    _add_labelled(compare)
    _path(compare, "--weights", "FILE", "default: all of weights/", nargs="+")
    compare.add_argument(
        "--classes", nargs="+", choices=EMOTIONS, default=(), help="only faces of these; all"
    )
    return parser


def _path(parser: Options, name: str, metavar: str, words: str, **rest: Any) -> None:
    parser.add_argument(name, type=Path, metavar=metavar, help=words, **rest)


def _flag(parser: Options, name: str, words: str) -> None:
    parser.add_argument(name, action="store_true", help=words)


def _number(
    parser: Options, name: str, kind: Callable[[str], float], default: float, words: str
) -> None:
    metavar = name.removeprefix("--").replace("-", "_").upper()
    words = f"{words}; default: {default:g}"
    parser.add_argument(name, type=kind, default=default, metavar=metavar, help=words)


def _add_labelled(parser: argparse.ArgumentParser) -> None:
    _add_evaluation(parser, "FER+ layout, or a folder for each emotion")
    words = "default: FER2013Test; of data without splits, the faces held out"
    parser.add_argument("--split", default="FER2013Test", help=words)


def _add_evaluation(parser: argparse.ArgumentParser, data: str) -> None:
    _path(parser, "--data", "DIR", data, required=True)
    _path(parser, "--json", "OUT", "also write the figures here")
    _path(parser, "--plots", "DIR", "also draw them, as PNG files")


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str
) -> argparse.ArgumentParser:
    """A command with the flags that every command has."""
    does, example = WORDS[name]
    epilog = f"example: python run_worker.py {example}"
    parser = commands.add_parser(name, help=does, description=does, epilog=epilog)
    parser.set_defaults(command=name)
    group = parser.add_argument_group("configuration")
    group.add_argument("--config", type=Path, metavar="FILE", help="instead of ./worker.ini")
    group.add_argument("--url", help="short for --set server.url=URL")
    group.add_argument("--interval", metavar="SECONDS", help="short for worker.poll_interval")
    name_value = "SECTION.KEY=VALUE"
    group.add_argument("--set", action="append", default=[], metavar=name_value, help="any key")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _fraction(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise ValueError
    return number


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host or "127.0.0.1", int(port)


def _seconds(text: str) -> float:
    number = float(text.removesuffix("s"))
    if not 0.001 <= number <= 86_400:
        raise ValueError
    return number


_seconds.__name__, _address.__name__ = "time such as 0.5s", "address such as 127.0.0.1:8080"
_positive.__name__, _fraction.__name__ = "whole number from 1", "number from 0 to 1"
