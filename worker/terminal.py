"""What a person sees: tables and progress bars on a terminal, plain lines in a pipe."""

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text


def safe(text: object) -> str:
    """Text for a terminal: what a server or a file sent can neither move the cursor nor colour."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def show_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], console: Console
) -> None:
    """A table on a terminal; elsewhere one line a row, its values separated by tabs."""
    if not console.is_terminal:
        for row in rows:
            console.file.write("\t".join(safe(value) for value in row) + "\n")
        return
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(safe(value)) for value in row))
    console.print(table)


def save_svg(console: Console, path: Path, title: str) -> None:
    """Write what a recording console showed as a picture that fetches nothing when it is opened."""
    picture = console.export_svg(title=title)
    path.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL))


def progress_bar() -> Progress:
    """A progress bar on standard error, shown only where that is a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
