"""The flags of every command, and what `--help` says of them."""

import argparse
from pathlib import Path

from worker import __version__
from worker.emotions import EMOTIONS


def build_parser() -> argparse.ArgumentParser:
    """The parser of run_worker.py; its result names the command in ``command``."""
    parser = argparse.ArgumentParser(
        prog="run_worker.py",
        description="Pulls images from a server, finds faces, names their emotions, stores them.",
        epilog="`python run_worker.py COMMAND --help` shows each command with an example.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    _add(
        commands,
        "run",
        "run the daemon in the foreground (the default command)",
        "run --url http://127.0.0.1:5000 --interval 5",
    )
    _add(
        commands,
        "once",
        "drain what is there, try each owed post once, exit (for cron)",
        "once --url http://127.0.0.1:5000",
    )
    demo = _add(
        commands, "demo", "a Flask server on loopback, photographs and the daemon at work", "demo"
    )
    demo.add_argument("--output", type=Path, default="demo", metavar="DIR", help="default: demo")
    demo.add_argument("--svg", type=Path, metavar="FILE", help="also save what is shown as SVG")
    server = _add(
        commands,
        "demo-server",
        "the reference Flask server alone",
        "demo-server pictures/ --port 5000 --threshold 0.3",
    )
    server.add_argument("folder", type=Path, nargs="*", help="folders of images to hand out")
    server.add_argument("--port", type=int, default=5000, help="0: a free one; default: 5000")
    server.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; default: this machine alone"
    )
    server.add_argument(
        "--threshold",
        type=_fraction,
        help="0..1; default: 0.5, or what is in Redis",
    )
    server.add_argument(
        "--queue", metavar="URL", help="keep it in Redis, e.g. redis://127.0.0.1:6379/0"
    )
    server.add_argument(
        "--lease", type=float, default=60, metavar="SECONDS", help="until an image is handed on"
    )
    _add(
        commands,
        "check",
        "try configuration, weights, database and server",
        "check --config worker.ini",
    )
    results = _add(
        commands,
        "results",
        "look into the JSON file",
        "results --emotion fear --since 2026-11-24 --csv",
    )
    results.add_argument("--database", type=Path, metavar="FILE", help="default: [database] path")
    results.add_argument("--last", type=_positive, metavar="N", help="only the last N")
    results.add_argument("--emotion", choices=EMOTIONS, help="a face reached the threshold for it")
    results.add_argument("--file", metavar="PATTERN", help="file names such as 'cam1*'")
    results.add_argument("--since", metavar="TIME", help="ISO 8601, UTC where no zone is given")
    results.add_argument("--until", metavar="TIME", help="up to, not including")
    results.add_argument("--follow", action="store_true", help="go on with what comes; Ctrl-C ends")
    how = results.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="one record a line")
    how.add_argument("--csv", action="store_true", help="one face a line")
    how.add_argument(
        "--seed-format", action="store_true", help='{"images": [...]}: name, threshold, faces'
    )
    how.add_argument("--verify", action="store_true", help="repair and check the file")
    report = _add(
        commands,
        "report",
        "the JSON file as one HTML page with plots, which needs no network",
        "report --since 2026-11-24 --output report.html",
    )
    report.add_argument("--database", type=Path, metavar="FILE", help="default: [database] path")
    report.add_argument("--since", metavar="TIME", help="ISO 8601, UTC where no zone is given")
    report.add_argument(
        "--output", type=Path, default="report.html", metavar="FILE", help="default: report.html"
    )
    crop = _add(
        commands,
        "crop",
        "cut the faces out of images and folders, as training sees them",
        "crop holiday/ --output faces/",
    )
    crop.add_argument("sources", type=Path, nargs="+", metavar="SOURCE")
    crop.add_argument(
        "--output", type=Path, default="faces", metavar="DIR", help="default: faces; may have some"
    )
    label = _add(
        commands,
        "label",
        "a page on loopback to name the emotions of cropped faces",
        "label faces/ --port 5001",
    )
    label.add_argument("folder", type=Path, metavar="DIR", help="what `crop` wrote")
    label.add_argument("--port", type=int, default=5001, help="0: a free one; default: 5001")
    analyze = _add(
        commands,
        "analyze",
        "images, videos and folders of them, without a server: what is on them",
        "analyze holiday/ clip.mp4 --every 0.5s --annotated drawn/ --threshold 0.4",
    )
    analyze.add_argument("paths", type=Path, nargs="+", metavar="PATH")
    analyze.add_argument("--threshold", type=_fraction, default=0.5, help="0..1; default: 0.5")
    analyze.add_argument(
        "--every", type=_seconds, default=0.5, metavar="TIME", help="of a video; default: 0.5s"
    )
    analyze.add_argument("--annotated", type=Path, metavar="DIR", help="copies with faces drawn in")
    analyze.add_argument("--database", type=Path, metavar="FILE", help="append the records to it")
    analyze.add_argument("--json", action="store_true", help="one record a line")
    live = _add(
        commands,
        "live",
        "a camera or a video in real time: in a window, a file or a page",
        "live --source 0 --serve 127.0.0.1:8080",
    )
    live.add_argument(
        "--source", default="0", metavar="SOURCE", help="camera number, file or URL; default: 0"
    )
    live.add_argument("--threshold", type=_fraction, default=0.5, help="0..1; default: 0.5")
    where = live.add_mutually_exclusive_group()
    where.add_argument("--output", type=Path, metavar="FILE", help="write it as FILE.mp4 instead")
    where.add_argument(
        "--serve", type=_address, metavar="HOST:PORT", help="show it on a page instead (MJPEG)"
    )
    train = _add(
        commands,
        "train",
        "train a network; goes on where it was interrupted",
        "train --network emotion_net --data ferplus/ --output runs/mine.safetensors",
    )
    train.add_argument("--network", default="emotion_net", help="default: emotion_net")
    train.add_argument(
        "--data",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="FER+ layout, or a folder for each emotion; several are put together",
    )
    train.add_argument("--output", type=Path, metavar="FILE", help="default: weights/NETWORK…")
    train.add_argument("--epochs", type=_positive, default=10, help="default: 10")
    train.add_argument("--batch-size", type=_positive, default=64, help="default: 64")
    train.add_argument("--learning-rate", type=float, default=0.05, help="peak; default: 0.05")
    train.add_argument("--seed", type=int, default=0, help="default: 0")
    train.add_argument("--threads", type=int, default=0, help="CPU threads; default: all")
    train.add_argument(
        "--side", type=int, default=0, metavar="PIXELS", help="default: what the network wants"
    )
    train.add_argument("--init", type=Path, metavar="FILE", help="begin with these weights")
    train.add_argument("--teacher", type=Path, metavar="FILE", help="weights to learn from as well")
    train.add_argument(
        "--bfloat16", action="store_true", help="faster, on a CPU that computes in this format"
    )
    train.add_argument(
        "--prepare",
        type=Path,
        nargs=2,
        metavar=("FER2013.CSV", "FER2013NEW.CSV"),
        help="only make the FER+ layout in --output DIR from the two files",
    )
    evaluate = commands.add_parser("evaluate", help="measure a network on labelled data")
    subjects = evaluate.add_subparsers(metavar="SUBJECT", required=True)
    emotions = _add(
        subjects,
        "emotions",
        "accuracy, calibration and speed",
        "evaluate emotions --data ferplus/ --split FER2013Valid --json figures.json --plots plots/",
    )
    _add_evaluation(emotions)
    emotions.add_argument("--weights", type=Path, metavar="FILE", help="default: worker.ini's")
    faces = _add(
        subjects,
        "faces",
        "how many faces are found, and how many of what is found are none",
        "evaluate faces --data DIR --set detection.profile=accurate --failures failures/",
    )
    faces.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="images/ and boxes.csv"
    )
    faces.add_argument("--json", type=Path, metavar="OUT", help="also write the figures here")
    faces.add_argument("--plots", type=Path, metavar="DIR", help="recall / false positives, a PNG")
    faces.add_argument(
        "--failures", type=Path, metavar="DIR", help="pictures with what was missed or false"
    )
    faces.add_argument(
        "--mine",
        type=Path,
        metavar="DIR",
        help="instead, write windows of these pictures to train face_net on",
    )
    faces.add_argument(
        "--hard",
        type=_fraction,
        default=0.0,
        metavar="PROBABILITY",
        help="mine only what face_net is wrong about by this much; default: 0, all",
    )
    compare = _add(
        commands,
        "compare",
        "several networks side by side on labelled data",
        "compare --data ferplus/ --split FER2013Valid --plots plots/",
    )
    _add_evaluation(compare)
    compare.add_argument(
        "--weights", type=Path, nargs="+", metavar="FILE", help="default: all of weights/"
    )
    compare.add_argument(
        "--classes", nargs="+", choices=EMOTIONS, default=(), help="only faces of these; all"
    )
    return parser


def _add_evaluation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="FER+ layout, or a folder for each emotion",
    )
    parser.add_argument("--split", default="FER2013Test", help="default: FER2013Test")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures here")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="also draw them, as PNG files")


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    description: str,
    example: str,
) -> argparse.ArgumentParser:
    """A command with the flags that every command has."""
    epilog = f"example: python run_worker.py {example}"
    parser = commands.add_parser(name, help=description, description=description, epilog=epilog)
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
