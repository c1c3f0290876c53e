"""One writer a file: a lock file beside it, and a lock on the open file itself.

The lock file names the process that has the file. The lock on the handle also keeps away a writer
that comes by another path (a hard link, a bind mount), or after the lock file was removed.
"""

import os
import sys
from contextlib import suppress
from io import FileIO
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from worker.errors import DatabaseUnusable

if sys.platform != "win32":
    import fcntl


def lock(path: Path) -> BaseFileLock:
    """Hold `<name>.lock` until it is released.

    Raises DatabaseUnusable if another process, which it names, or another part of this one has it;
    OSError if the folder cannot be written to.
    """
    file = path.with_name(f"{path.name}.lock")
    taken = FileLock(file, timeout=0, thread_local=False)
    try:
        taken.acquire()
    except Timeout:
        holder = "unknown"
        with suppress(OSError):
            holder = file.read_text(errors="replace").strip() or holder
        raise in_use(path, f"process {holder}") from None
    # On a file system without locks, filelock turns to one that writes the process id itself.
    if isinstance(taken, FileLock):
        with suppress(OSError):
            file.write_text(f"{os.getpid()}\n")
    return taken


def lock_handle(handle: FileIO, path: Path) -> None:
    """Hold the open file of ``path`` until it is closed; its bytes are neither read nor written.
    It is closed at once if another one has it.

    `flock`, since it belongs to this handle: a reader of the same process that closes the file does
    not give it back. Windows has no such lock; there the lock file has to do. Raises
    DatabaseUnusable if another one has it.
    """
    if sys.platform != "win32":
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            raise in_use(path, "which reached it by another path") from None
        except OSError:  # a file system without locks
            return


def in_use(path: Path, holder: str) -> DatabaseUnusable:
    """The error of a second writer."""
    return DatabaseUnusable(
        f"{path} is in use by another worker ({holder}); stop it, or name another file"
    )
