"""Tables as spreadsheets and download sites leave them, and as we write them."""

import csv
import gzip
import io
import re
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from worker.errors import UsageError
from worker.files import replace_file
from worker.record import EMOTIONS

LABELS = "label.csv"  # FER+'s name for the table with the votes on a folder's faces
VOTE_COLUMNS = len(EMOTIONS) + 2  # and unknown, not-a-face
WHOLE = [0, 0, 48, 48]  # the box of a face that fills its crop: what FER+ has beside each name
MOST_VOTES = 1_000_000
GZIP, UTF16 = b"\x1f\x8b", (BOM_UTF16_LE, BOM_UTF16_BE)


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each line, without the white space around them; empty lines and
    empty cells at the end are left out.

    Reads UTF-8, UTF-16 with its mark, and gzip, with commas, semicolons or tabs. Raises UsageError
    that names file and line.
    """
    line = 0
    try:
        with path.open("rb") as file:
            opened = gzip.open if file.read(2) == GZIP else open
        with opened(path, "rb") as file:
            encoding = "utf-16" if file.read(2) in UTF16 else "utf-8-sig"
        with opened(path, "rt", encoding=encoding, newline="") as text:
            first = re.sub('"[^"]*"', "", text.readline())
            text.seek(0)
            rows = csv.reader(text, delimiter=max(",;\t", key=first.count))
            for row in rows:
                if "\0" in "".join(row):
                    raise ValueError("it holds zero bytes")
                line = rows.line_num
                cells = [cell.strip() for cell in row]
                while cells and not cells[-1]:
                    cells.pop()
                if cells:
                    yield line, cells
    except (OSError, EOFError, zlib.error, ValueError, csv.Error) as error:
        why = getattr(error, "strerror", None) or error
        problem = f"{path}, line {line + 1}: cannot be read as CSV in UTF-8 or UTF-16: {why}"
        raise UsageError(problem) from error


def read_named_rows(path: Path, *columns: str) -> Iterator[tuple[int, dict[str, str]]]:
    """As `read_rows`, below a first line with the columns' names: line number and cells by name, in
    lower case; a cell that a line lacks is empty. Raises UsageError if one of ``columns`` is not
    there, too."""
    rows = read_rows(path)
    names = [name.lower() for name in next(rows, (0, []))[1]]
    if not set(columns) <= set(names):
        raise UsageError(f"{path}, line 1: expected the columns {','.join(columns)}")
    for line, cells in rows:
        yield line, dict.fromkeys(names, "") | dict(zip(names, cells, strict=False))


def parse_votes(cells: Sequence[str]) -> list[int]:
    """Ten vote counts, which a spreadsheet may have made 3.0 of 3. Raises ValueError if they are
    none."""
    votes = [float(cell) for cell in cells]
    good = all(vote.is_integer() and 0 <= vote <= MOST_VOTES for vote in votes)
    if not good or len(votes) != VOTE_COLUMNS:
        raise ValueError("no ten vote counts")
    return [int(vote) for vote in votes]


def write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write a table as a whole; what no text can hold is escaped. Raises Stop."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    replace_file(path, text.getvalue().encode(errors="backslashreplace"))


def parse_box(cell: str) -> list[int]:
    """The corners x1, y1, x2, y2 of a cell such as "(-3, 2, 44, 49)"; of any other, WHOLE."""
    corners = [int(number) for number in re.findall(r"-?\d{1,4}", cell)]
    return corners if len(corners) == len(WHOLE) else WHOLE


def write_labels(folder: Path, votes: Mapping[str, Sequence[int]]) -> None:
    """Write ``folder/label.csv``: file names with their ten vote counts. Raises Stop."""
    write_rows(folder / LABELS, [(name, tuple(WHOLE), *counts) for name, counts in votes.items()])
