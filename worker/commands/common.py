"""What several commands share: configuration, signals, kinds of values, exit codes."""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from worker import PROGRAM
from worker.errors import Stop
from worker.hints import did_you_mean, fraction_hint
from worker.record import EMOTIONS

if TYPE_CHECKING:
    from worker.config import Config
    from worker.daemon.alarm import Alarm

EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE, EXIT_REFUSED, EXIT_DATABASE = 1, 2, 3, 4, 5


def new_alarm(*, hangup: bool = False) -> "Alarm":
    """One that has taken over the signals. To be made first, before the slow imports."""
    from worker.daemon.alarm import Alarm

    alarm = Alarm()
    alarm.install(hangup=hangup)
    return alarm


def add_configuration(parser: argparse.ArgumentParser, *, http: bool = False) -> None:
    """The flags of worker.ini; with ``http`` also those of a command that asks the server."""
    group = parser.add_argument_group("configuration")
    group.add_argument("--config", type=Path, metavar="FILE", help="instead of ./worker.ini")
    if http:
        _short(group.add_argument, "--url", "URL", "server.url")
        _short(group.add_argument, "--interval", "SECONDS", "worker.poll_interval")
    name_value = "SECTION.KEY=VALUE"
    group.add_argument("--set", action="append", default=[], metavar=name_value, help="any key")


def _short(add: Callable[..., object], flag: str, metavar: str, key: str) -> None:
    words = f"short for --set {key}={metavar}"
    kind = f"{key}={{}}".format
    add(flag, dest="set", action="append", default=[], type=kind, metavar=metavar, help=words)


def load(options: argparse.Namespace) -> "Config":
    """The configuration with this command's flags, and nothing else done. Raises UsageError."""
    from worker.config import load_config

    return load_config(options.config, flags=options.set)


def configure(options: argparse.Namespace) -> "Config":
    """The configuration with this command's flags; also sets up the log and OpenCV's pixel limit,
    which must stand before OpenCV is imported."""
    from worker.config import PIXEL_LIMIT_VARIABLE
    from worker.log import configure_logging

    config = load(options)
    os.environ[PIXEL_LIMIT_VARIABLE] = str(config.server.max_image_pixels)
    configure_logging(config.log)
    return config


def example(words: str) -> str:
    """The last line of a command's help."""
    return f"example: {PROGRAM} {words}"


def fraction(text: str) -> float:
    """A value of 0..1, such as a threshold."""
    number = _number(text, "0 to 1")
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not in 0 to 1{fraction_hint(number)}")
    return number


def positive(text: str) -> int:
    """A count from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1")
    return int(text)


def seconds(text: str) -> float:
    """A time in seconds, with or without the s."""
    number = _number(text.removesuffix("s"), "seconds, such as 0.5")
    if not 0.001 <= number <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not in 0.001 to 86400 seconds")
    return number


def emotion(text: str) -> str:
    """One of the eight."""
    if text not in EMOTIONS:
        known = ", ".join(EMOTIONS)
        hint = did_you_mean(text, EMOTIONS)
        raise argparse.ArgumentTypeError(f"{text} is none of {known}{hint}")
    return text


def _number(text: str, expected: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no number ({expected})") from None


def write_json(path: Path | None, figures: object) -> None:
    """Write what was measured, if the user named a file for it. Raises Stop."""
    if path:
        try:
            path.write_text(json.dumps(figures, indent=2) + "\n")
        except OSError as error:
            raise Stop(f"--json {path} cannot be written: {error.strerror}") from error


def add_labelled(parser: argparse.ArgumentParser, data: str, *, split: bool = True) -> None:
    """The flags of what measures networks on labelled data."""
    parser.add_argument("--data", type=Path, metavar="DIR", help=data, required=True)
    if split:
        words = "default: FER2013Test; of data without splits, the faces held out"
        parser.add_argument("--split", default="FER2013Test", help=words)
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures here")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="also draw them, as PNG files")
