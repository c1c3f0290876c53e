"""Tables as spreadsheets and download sites leave them."""

import csv
import gzip
import io
import re
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from worker.errors import UsageError

GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
MOST_VOTES = 1_000_000


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each line, without the white space around them; empty lines and
    empty cells at the end are left out.

    Reads UTF-8, UTF-16 with its mark, and gzip, with commas, semicolons or tabs. Raises UsageError
    that names file and line.
    """
    line = 0
    try:
        with path.open("rb") as file:
            text = _as_text(file)
            first = re.sub('"[^"]*"', "", text.readline())
            text.seek(0)
            rows = csv.reader(text, delimiter=max(",;\t", key=first.count))
            for row in rows:
                if any("\0" in cell for cell in row):
                    raise ValueError("it holds zero bytes")
                line = rows.line_num
                cells = [cell.strip() for cell in row]
                while cells and not cells[-1]:
                    cells.pop()
                if cells:
                    yield line, cells
    except (ValueError, csv.Error) as error:
        problem = "it is neither UTF-8 nor UTF-16" if isinstance(error, UnicodeError) else error
        raise UsageError(f"{path}, line {line + 1}: {problem}; save it as CSV in UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} cannot be read after line {line}: {error}") from error


def read_named_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """As `read_rows`, below a first line with the columns' names: line number and cells by name, in
    lower case."""
    rows = read_rows(path)
    _, names = next(rows, (0, []))
    for line, cells in rows:
        yield line, dict(zip((name.lower() for name in names), cells, strict=False))


def parse_votes(cells: list[str], count: int) -> list[int] | None:
    """So many vote counts, which a spreadsheet may have made 3.0 of 3; None if they are none."""
    try:
        votes = [float(cell) for cell in cells]
    except ValueError:
        return None
    good = all(vote.is_integer() and 0 <= vote <= MOST_VOTES for vote in votes)
    return [int(vote) for vote in votes] if good and len(votes) == count else None


def _as_text(file: BinaryIO) -> io.TextIOWrapper:
    head = file.read(4)
    file.seek(0)
    if head == ZIP:
        raise OSError("it is a zip archive; unpack it first")
    if head.startswith(GZIP):
        file = cast(BinaryIO, gzip.GzipFile(fileobj=file))
        head = file.read(4)
        file.seek(0)
    utf16 = head.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    return io.TextIOWrapper(file, "utf-16" if utf16 else "utf-8-sig", newline="")
