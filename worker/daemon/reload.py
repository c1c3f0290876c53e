"""What of a configuration that was read again can hold at once, and what waits for a restart."""

from worker.config import Config

LIVE = {
    *("server.url", "server.image_path", "server.threshold_path", "server.fallback_threshold"),
    *("server.token_file", "server.ca_file", "server.client_cert", "server.timeout"),
    *("server.allowed_hosts", "server.max_image_bytes", "log.level", "log.format"),
    *("worker.poll_interval", "worker.max_backoff"),
}


def merge(old: Config, new: Config) -> tuple[Config, list[str], list[str]]:
    """``new`` where it may change while the daemon runs, else ``old``; then the keys that changed,
    and those that wait for a restart, as `[section] key`."""
    sections, changed, waiting = {}, [], []
    for section in Config.model_fields:
        before, after = getattr(old, section), getattr(new, section)
        kept = {}
        for key in type(before).model_fields:
            was, name = getattr(before, key), f"[{section}] {key}"
            if was == getattr(after, key):
                continue
            if f"{section}.{key}" in LIVE:
                changed.append(name)
            else:
                waiting.append(name)
                kept[key] = was
        sections[section] = after.model_copy(update=kept)
    return old.model_copy(update=sections), changed, waiting
