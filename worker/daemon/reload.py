"""What of a configuration that was read again can hold at once, and what waits for a restart."""

import logging
from collections.abc import Callable
from dataclasses import replace

from worker.client import ServerClient
from worker.config import Config
from worker.errors import UsageError
from worker.log import configure_logging

logger = logging.getLogger(__name__)


def reloaded(old: Config, read_again: Callable[[], Config]) -> Config:
    """The configuration as it is to hold from now on; the old one if the new one has a mistake."""
    try:
        new = read_again()
        config = merge(old, new)
        ServerClient(config.server, config.worker.id).close()  # whose files must be usable
    except UsageError as error:
        logger.error("SIGHUP: %s; the old configuration stays in force", error)
        return old
    configure_logging(config.log)
    changed, waiting = differing(old, config), differing(config, new)
    logger.info("SIGHUP: changed: %s; waits for a restart: %s", changed, waiting)
    return config


def merge(old: Config, new: Config) -> Config:
    """``new``, but as in ``old`` what cannot change while the daemon runs: the database, the
    children that analyse, the address of the metrics, and whether results are owed."""
    pixels, owed = old.server.max_image_pixels, old.server.results_path
    server = replace(new.server, max_image_pixels=pixels, results_path=owed)
    worker = replace(new.worker, parallel=old.worker.parallel)
    return replace(old, server=server, worker=worker, log=new.log)


def differing(one: Config, other: Config) -> str:
    """The keys in which two configurations differ, as `[section] key`, or that it is nothing."""
    keys = [
        f"[{name}] {key}"
        for name, section in vars(one).items()
        for key, value in vars(section).items()
        if value != getattr(getattr(other, name), key)
    ]
    return ", ".join(keys) or "nothing"
