"""What of a configuration that was read again can hold at once, and what waits for a restart."""

from worker.config import Config

FIXED_SECTIONS = {"detection", "classification", "database", "metrics"}
FIXED_KEYS = {"server.results_path", "server.max_image_pixels", "worker.parallel"}


def merge(old: Config, new: Config) -> tuple[Config, list[str], list[str]]:
    """``new``, but as in ``old`` what cannot change while the daemon runs; then the keys that
    changed, and those that wait for a restart, as `[section] key`."""
    sections, changed, waiting = {}, [], []
    for section, after in new:
        before, fixed = dict(getattr(old, section)), {}
        for key, value in after:
            if value == before[key]:
                continue
            if section in FIXED_SECTIONS or f"{section}.{key}" in FIXED_KEYS:
                waiting.append(f"[{section}] {key}")
                fixed[key] = before[key]
            else:
                changed.append(f"[{section}] {key}")
        sections[section] = after.model_copy(update=fixed)
    return old.model_copy(update=sections), changed, waiting
