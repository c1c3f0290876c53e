"""What every command begins with: configuration and signals; and the exit codes it ends with."""

import argparse
import os
from typing import TYPE_CHECKING

from worker.daemon.alarm import Alarm

if TYPE_CHECKING:
    from worker.config import Config

EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE, EXIT_REFUSED, EXIT_DATABASE = 1, 2, 3, 4, 5


def new_alarm() -> Alarm:
    """One that has taken over the signals. To be made first, before the slow imports."""
    alarm = Alarm()
    alarm.install()
    return alarm


def configure(options: argparse.Namespace) -> "Config":
    """The configuration with this command's flags; also sets up the log and OpenCV's pixel limit,
    which must stand before OpenCV is imported."""
    from worker.config import PIXEL_LIMIT_VARIABLE
    from worker.log import configure_logging

    config = load(options)
    os.environ[PIXEL_LIMIT_VARIABLE] = str(config.server.max_image_pixels)
    configure_logging(config.log)
    return config


def load(options: argparse.Namespace) -> "Config":
    """The configuration with this command's flags, and nothing else done. Raises UsageError."""
    from worker.config import load_config

    flags = list(options.set)
    if options.url is not None:
        flags.append(f"server.url={options.url}")
    if options.interval is not None:
        flags.append(f"worker.poll_interval={options.interval}")
    return load_config(options.config, flags=flags)
