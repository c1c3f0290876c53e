"""What the database tells of a task, and which faults can be waited for."""

import errno
import sqlite3
from dataclasses import dataclass
from typing import Any

MADE_AGAIN = "%s: %s; it is made again from the JSON file"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
BUSY = ("FULL", "IOERR", "BUSY", "LOCKED", "CANTOPEN", "READONLY", "PERM", "NOMEM")


@dataclass(frozen=True)
class Known:
    """A recorded task. ``digest``: the SHA-256 (hex) of its image as noted when it was stored, or
    None; ``owed``: whether its record is still to be posted."""

    digest: str | None
    owed: bool


@dataclass(frozen=True)
class Owed:
    """A record to post, with the latest lease seen with its task."""

    task_id: str
    lease_id: str | None
    record: dict[str, Any]


class Disagrees(sqlite3.DatabaseError):
    """Raised when a record does not stand where the index says."""


def can_wait(error: Exception) -> bool:
    """Whether the disk or another process is at fault, and not what is in the files."""
    if isinstance(error, OSError):
        return error.errno in FULL
    if isinstance(error, sqlite3.ProgrammingError):
        return True  # it is closed
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    return code in [getattr(sqlite3, f"SQLITE_{name}") for name in BUSY]
