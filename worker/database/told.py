"""What the database tells of a task."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Known:
    """A recorded task. ``digest``: the SHA-256 (hex) of its image as noted when it was stored, or
    None; ``owed``: whether its record is still to be posted."""

    digest: str | None
    owed: bool


@dataclass(frozen=True)
class Owed:
    """A record to post. ``failures``: how often the server answered this post with a fault."""

    task_id: str
    lease_id: str | None
    failures: int
    record: dict[str, Any]
