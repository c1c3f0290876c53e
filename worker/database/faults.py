"""Which faults of the disk can be waited for, and what is said of them."""

import errno
import sqlite3
from pathlib import Path

from worker.errors import DiskRefuses

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
BUSY = ("FULL", "IOERR", "BUSY", "LOCKED", "CANTOPEN", "READONLY", "PERM", "NOMEM")


def can_wait(error: sqlite3.Error) -> bool:
    """Whether the disk or another process is at fault, and not the content of the sidecar."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    return code in [getattr(sqlite3, f"SQLITE_{name}") for name in BUSY]


def refused(path: Path, error: OSError | sqlite3.Error) -> DiskRefuses:
    """The error of a disk that does not take what is written to ``path``."""
    text = error.strerror if isinstance(error, OSError) else None
    return DiskRefuses(f"cannot write {path}: {text or error}; waiting")
