"""From the two files that users can download to the FER+ layout: `train --prepare`."""

import csv
import io
from pathlib import Path

import cv2
import numpy as np

from worker.errors import UsageError
from worker.files import replace_file
from worker.training.dataset import SPLITS, VOTE_COLUMNS
from worker.training.tables import parse_votes, read_named_rows

SIDE = 48
BOX = "(0, 0, 48, 48)"
USAGES = dict(zip(("Training", "PublicTest", "PrivateTest"), SPLITS, strict=True))


def prepare(pixels_file: Path, votes_file: Path, output: Path) -> dict[str, int]:
    """Write ``output/FER2013Train|Valid|Test`` with PNG files and label.csv; faces by split.

    ``pixels_file``: Kaggle's fer2013.csv or icml_face_data.csv (emotion, pixels, Usage);
    ``votes_file``: Microsoft's fer2013new.csv (Usage, Image name and ten vote counts), line for
    line about the same pictures. A picture without a name there has no face, and is left out.
    Raises UsageError that names the file and line that is not of this form.
    """
    tables: dict[str, list[tuple[object, ...]]] = {usage: [] for usage in USAGES}
    for split in SPLITS:
        (output / split).mkdir(parents=True, exist_ok=True)
    pixel_rows = read_named_rows(pixels_file)
    for line, row in read_named_rows(votes_file):
        pixel_line, pixels = next(pixel_rows, (line, {}))
        usage, name = row.get("usage", ""), row.get("image name")
        votes = parse_votes([*row.values()][2:], VOTE_COLUMNS)
        if usage not in USAGES or name is None or votes is None:
            raise UsageError(
                f"{votes_file}, line {line}: not as in fer2013new.csv "
                "(Usage,Image name and ten vote counts)"
            )
        picture = _picture(pixels.get("pixels", ""))
        if picture is None or pixels.get("usage") != usage:
            raise UsageError(
                f"{pixels_file}, line {pixel_line}: not as in fer2013.csv (emotion,pixels,Usage), "
                f"or not about the same picture as line {line} of {votes_file}"
            )
        if name:
            path = output / USAGES[usage] / Path(name).with_suffix(".png").name
            if not cv2.imwrite(str(path), picture):
                raise UsageError(f"{path} cannot be written")
            tables[usage].append((path.name, BOX, *votes))
    # The tables come last: a folder without label.csv is known to be incomplete.
    for usage, rows in tables.items():
        if rows:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(rows)
            replace_file(output / USAGES[usage] / "label.csv", text.getvalue().encode())
    return {USAGES[usage]: len(rows) for usage, rows in tables.items()}


def _picture(levels: str) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]] | None:
    """Levels as text, as uint8 ``(48, 48)``; None if they are none."""
    try:
        return np.array(levels.split(), dtype=np.uint8).reshape(SIDE, SIDE)
    except (ValueError, OverflowError):
        return None
