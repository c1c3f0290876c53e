"""What several commands share: configuration, signals, figures."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.daemon import Alarm
from worker.files import replace_file

if TYPE_CHECKING:  # `--help` needs no configuration
    from worker.config import Config


def new_alarm(*, hangup: bool = False) -> Alarm:
    """One that has taken over the signals. To be made first, before the slow imports."""
    alarm = Alarm()
    alarm.install(hangup=hangup)
    return alarm


def add_configuration(parser: argparse.ArgumentParser, *, http: bool = False) -> None:
    """The flags of worker.ini; with ``http`` also those of a command that asks the server."""
    add = parser.add_argument_group("configuration").add_argument
    add("--config", type=Path, metavar="FILE", help="instead of ./worker.ini")
    any_key: dict[str, Any] = {"dest": "set", "action": "append", "default": []}
    add("--set", metavar="SECTION.KEY=VALUE", help="any key", **any_key)
    if http:
        words = "short for --set server.url=URL"
        add("--url", type="server.url={}".format, metavar="URL", help=words, **any_key)
        kind = "worker.poll_interval={}".format
        words = "short for --set worker.poll_interval=SECONDS"
        add("--interval", type=kind, metavar="SECONDS", help=words, **any_key)


def load(options: argparse.Namespace) -> "Config":
    """The configuration with this command's flags, and nothing else done. Raises UsageError."""
    from worker.config import load_config

    return load_config(options.config, flags=options.set)


def configure(options: argparse.Namespace) -> "Config":
    """The configuration with this command's flags; also sets up the log."""
    from worker.log import configure_logging

    config = load(options)
    configure_logging(config.log)
    return config


def add_data(parser: argparse.ArgumentParser, data: str) -> None:
    """The flags of what measures networks on labelled data."""
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", help=data, required=True)
    add("--json", type=Path, metavar="OUT", help="also write the figures here")
    add("--plots", type=Path, metavar="DIR", help="also draw them, as PNG files")
    add_configuration(parser)


def add_split(parser: argparse.ArgumentParser) -> None:
    """The flags of what measures networks on faces with emotions."""
    add_data(parser, "FER+ layout, or a folder for each emotion")
    words = "default: FER2013Test; of data without splits, the faces held out"
    parser.add_argument("--split", default="FER2013Test", help=words)


def write_json(path: Path | None, figures: object) -> None:
    """Write what was measured, if the user named a file for it. Raises Stop."""
    if path:
        replace_file(path, f"{json.dumps(figures, indent=2)}\n".encode())
