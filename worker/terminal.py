"""What a person sees: tables and progress bars on a terminal, plain lines in a pipe."""

import errno
import io
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # rich takes 60 ms, and the daemon needs none of it
    from rich.progress import Progress

NO_ROOM = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}


def open_streams() -> None:
    """Let no name, and no standard output that is missing, end a command with a traceback.

    What a stream's encoding lacks is written as an escape. A closed standard output becomes one
    that refuses what is written, so that no file is opened in its place.
    """
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def utf8_output() -> None:
    """Make standard output UTF-8 whatever the locale is: for JSON and CSV, which programs read.

    Half a surrogate pair, as in a file name that is no text, is written as JSON's own escape.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")


def lost_output(error: OSError) -> bool:
    """Whether this is about standard output, which takes nothing more (disk full, reader gone).

    What could not be written is then dropped: Python would complain of it once more at its end.
    """
    if error.filename is not None or error.errno not in NO_ROOM:
        return False
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def safe(text: object) -> str:
    """Text for a terminal: what a server or a file sent can neither move the cursor nor colour."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, heading: bool = False
) -> None:
    """Aligned columns on a terminal; elsewhere a line a row, its values separated by tabs, below
    the names of the columns if ``heading``."""
    lines, on_terminal = [[safe(value) for value in row] for row in rows], sys.stdout.isatty()
    if heading or on_terminal:
        lines.insert(0, [*columns])
    if on_terminal:
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines = [[text.ljust(n) for text, n in zip(line, widths, strict=True)] for line in lines]
    for line in lines:
        print("  ".join(line).rstrip() if on_terminal else "\t".join(line))


def progress_bar() -> "Progress":
    """A progress bar on standard error, shown only if that is a terminal."""
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        "{task.description}",
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
