"""What of a configuration that was read again can hold at once, and what waits for a restart."""

from dataclasses import replace

from worker.config import Config

FIXED_SECTIONS = {"detection", "classification", "database", "metrics"}
FIXED_KEYS = {"server.results_path", "server.max_image_pixels", "worker.parallel"}


def merge(old: Config, new: Config) -> tuple[Config, list[str], list[str]]:
    """``new``, but as in ``old`` what cannot change while the daemon runs; then the keys that
    changed, and those that wait for a restart, as `[section] key`."""
    sections, changed, waiting = {}, [], []
    for section, after in vars(new).items():
        before, fixed = vars(getattr(old, section)), {}
        for key, value in vars(after).items():
            if value == before[key]:
                continue
            if section in FIXED_SECTIONS or f"{section}.{key}" in FIXED_KEYS:
                waiting.append(f"[{section}] {key}")
                fixed[key] = before[key]
            else:
                changed.append(f"[{section}] {key}")
        sections[section] = replace(after, **fixed)
    return replace(old, **sections), changed, waiting
