"""Records as lines for a person: one a face, the same in a table and as they come."""

import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from worker.record import Record, emotion_words
from worker.terminal import safe
from worker.viewing.results import parse_time

Row = tuple[str, ...]
HEADING = ("time", "file", "≥", "face", "emotions", "post")
TIME, THRESHOLD, FACE, POST = 11, 4, 4, 8  # columns of a terminal; file and emotions get the rest
GAP = "  "
FILE_SHARE = 0.38  # of that rest


def rows(records: Iterable[Record], posts: Mapping[str, str] | None = None) -> Iterator[Row]:
    """Time, file, threshold, face and emotions of each face, or of an image without one what became
    of it; with ``posts``, what became of its post, by task id, as well."""
    for record in records:
        time, threshold = record.get("processed_at", "-"), record.get("threshold")
        front = (time, record["file_name"], "-" if threshold is None else f"{threshold:g}")
        post = () if posts is None else (posts.get(record.get("task_id", ""), "-"),)
        for face in record["faces"]:
            yield *front, str(face["face_id"]), ", ".join(emotion_words(face)) or "-", *post
        if "error" in record:
            yield *front, "-", f"error: {record['error']['message']}", *post
        elif not record["faces"]:
            yield *front, "-", "no face", *post


def print_records(records: Iterable[Record], posts: Mapping[str, str] | None = None) -> int:
    """A table on a terminal, lines with tabs elsewhere, each as soon as its record comes; returns
    how many lines there were."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    printed = 0
    for line in lines(rows(records, posts), width):
        print(line)
        printed += 1
    return printed


def lines(table: Iterable[Row], width: int | None) -> Iterator[str]:
    """The rows as text: below a heading in ``width`` columns, or complete, with tabs, for None."""
    for number, row in enumerate(table):
        if width is None:
            yield "\t".join(map(safe, row))
            continue
        if not number:
            yield _line(HEADING[: len(row)], width)
        time = row[0] if row[0] == "-" else f"{parse_time(row[0]):%m-%d %H:%M}"
        yield _line((time, *row[1:]), width)


def _line(row: Sequence[str], width: int) -> str:
    post = POST + len(GAP) if len(row) == len(HEADING) else 0
    rest = max(40, width - TIME - THRESHOLD - FACE - 4 * len(GAP) - post)
    file = round(FILE_SHARE * rest)
    widths = (TIME, file, THRESHOLD, FACE, rest - file, POST)
    return GAP.join(_fit(text, size) for text, size in zip(row, widths, strict=False)).rstrip()


def _fit(text: str, width: int) -> str:
    """The text in just so many columns; what is too long ends in dots, between two values if there
    are several."""
    from rich.cells import cell_len, set_cell_size

    text = safe(text)
    if cell_len(text) > width:
        whole = set_cell_size(text, width - 2).rpartition(", ")[0]
        text = f"{whole}, …" if whole else set_cell_size(text, width - 1).rstrip() + "…"
    return set_cell_size(text, width)
