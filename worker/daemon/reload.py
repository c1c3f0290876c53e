"""What of a configuration that was read again can hold at once, and what waits for a restart."""

import logging
from collections.abc import Callable
from dataclasses import replace

from worker.client import ServerClient
from worker.config import Config
from worker.errors import UsageError
from worker.log import configure_logging

logger = logging.getLogger(__name__)

FIXED_SECTIONS = {"detection", "classification", "database", "metrics"}
FIXED_KEYS = {"server.results_path", "server.max_image_pixels", "worker.parallel"}


def reloaded(old: Config, read_again: Callable[[], Config]) -> Config:
    """The configuration as it is to hold from now on; the old one if the new one has a mistake."""
    try:
        config, changed, waiting = merge(old, read_again())
        ServerClient(config.server, config.worker.id).close()  # whose files must be usable
    except UsageError as error:
        logger.error("SIGHUP: %s; the old configuration stays in force", error)
        return old
    configure_logging(config.log)
    changes, rest = ", ".join(changed) or "nothing", ", ".join(waiting) or "nothing"
    logger.info("SIGHUP: changed: %s; waits for a restart: %s", changes, rest)
    return config


def merge(old: Config, new: Config) -> tuple[Config, list[str], list[str]]:
    """``new``, but as in ``old`` what cannot change while the daemon runs; then the keys that
    changed, and those that wait for a restart, as `[section] key`."""
    sections, changed, waiting = {}, [], []
    for name, section in vars(new).items():
        before, live = getattr(old, name), {}
        for key, value in vars(section).items():
            if value == getattr(before, key):
                continue
            if name in FIXED_SECTIONS or f"{name}.{key}" in FIXED_KEYS:
                waiting.append(f"[{name}] {key}")
            else:
                changed.append(f"[{name}] {key}")
                live[key] = value
        sections[name] = replace(before, **live)
    return replace(old, **sections), changed, waiting
