"""When a new file is begun, and what the old ones are called: `results.<UTC time>.json`."""

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

STAMP = "%Y%m%dT%H%M%S.%fZ"
UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True)
class Rotation:
    """When a new file is begun: in a new month (UTC), or before one exceeds ``max_bytes``."""

    monthly: bool = False
    max_bytes: int | None = None

    def is_due(self, size: int, written: float) -> bool:
        """Whether to begin a new file: the old one would grow to ``size`` bytes, and was last
        written to ``written`` seconds after the epoch."""
        too_large = self.max_bytes is not None and size > self.max_bytes
        return too_large or (self.monthly and _month(written) != _month(time.time()))


NEVER = Rotation()


def parse_rotation(text: str) -> Rotation:
    """`never`, `monthly`, or a size such as `100 MB` (kB, MB, GB; powers of ten).

    Raises ValueError for anything else.
    """
    if text in ("never", "monthly"):
        return Rotation(monthly=text == "monthly")
    found = re.fullmatch(r"([1-9]\d*) ?(kB|MB|GB)", text)
    if not found:
        raise ValueError(f"{text!r} is neither never nor monthly nor a size such as 100 MB")
    return Rotation(max_bytes=int(found[1]) * UNITS[found[2]])


def _month(timestamp: float) -> str:
    return time.strftime("%Y-%m", time.gmtime(timestamp))


def rotated_files(path: Path) -> list[Path]:
    """The files that rotation made of ``path``, oldest first. Raises OSError."""
    return sorted(f for f in path.parent.iterdir() if _stamp(f, path) is not None and f.is_file())


def rotated_name(path: Path) -> Path:
    """A name for the file as it is now: later than all others even when the clock went back."""
    now = datetime.now(UTC)
    for latest in rotated_files(path)[-1:]:
        now = max(now, (_stamp(latest, path) or now) + timedelta(microseconds=1))
    return path.with_name(f"{path.stem}.{now.strftime(STAMP)}{path.suffix}")


def _stamp(file: Path, path: Path) -> datetime | None:
    """When ``file`` was made of ``path``, or None if rotation cannot have given it its name."""
    name = rf"{re.escape(path.stem)}\.(2\d{{7}}T\d{{6}}\.\d{{6}}Z){re.escape(path.suffix)}"
    found = re.fullmatch(name, file.name, re.ASCII)
    with suppress(ValueError):  # an impossible date
        return datetime.strptime(found[1], STAMP).replace(tzinfo=UTC) if found else None
    return None


def undo_rotation(path: Path) -> None:
    """Take back a rotation that was interrupted before the new file was there. Raises OSError."""
    for latest in rotated_files(path)[-1:]:
        if not path.exists():
            latest.replace(path)
        elif latest.samefile(path):
            latest.unlink()
