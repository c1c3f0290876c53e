"""From the two files that users can download to the FER+ layout: `train --prepare`."""

import csv
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np

from worker.errors import UsageError
from worker.training.dataset import SPLITS, VOTE_COLUMNS

SIDE = 48
USAGES = dict(zip(("Training", "PublicTest", "PrivateTest"), SPLITS, strict=True))


def prepare(pixels_file: Path, votes_file: Path, output: Path) -> dict[str, int]:
    """Write ``output/FER2013Train|Valid|Test`` with PNG files and label.csv; faces by split.

    ``pixels_file``: Kaggle's fer2013.csv (emotion,pixels,Usage); ``votes_file``: Microsoft's
    fer2013new.csv (Usage, Image name and ten vote counts), line for line about the same pictures.
    A picture without a name there has no face, and is left out. Raises UsageError that names the
    file and line that is not of this form.
    """
    tables: dict[str, list[str]] = {usage: [] for usage in USAGES}
    for split in SPLITS:
        (output / split).mkdir(parents=True, exist_ok=True)
    with _open(pixels_file) as pixel_lines, _open(votes_file) as vote_lines:
        pixel_rows, vote_rows = csv.DictReader(pixel_lines), csv.DictReader(vote_lines)
        for number, votes in enumerate(vote_rows, 2):
            pixels = next(pixel_rows, None)
            usage, name = votes.get("Usage"), votes.get("Image name")
            counts = list(votes.values())[2:]
            if name is None or usage not in USAGES or len(counts) != VOTE_COLUMNS:
                raise UsageError(
                    f"{votes_file}, line {number}: not as in fer2013new.csv "
                    "(Usage,Image name and ten vote counts)"
                )
            levels = (pixels or {}).get("pixels", "").split()
            if pixels is None or pixels.get("Usage") != usage or len(levels) != SIDE * SIDE:
                raise UsageError(
                    f"{pixels_file}, line {number}: not as in fer2013.csv (emotion,pixels,Usage), "
                    f"or not about the same picture as line {number} of {votes_file}"
                )
            if not name:
                continue
            path = output / USAGES[usage] / Path(name).name
            try:
                picture = np.array(levels, dtype=np.uint8).reshape(SIDE, SIDE)
                tables[usage].append(f'{path.name},"(0, 0, 48, 48)",{",".join(counts)}')
            except (ValueError, OverflowError) as error:
                raise UsageError(f"{pixels_file}, line {number}: {error}") from error
            if not cv2.imwrite(str(path), picture):
                raise UsageError(f"{path} cannot be written")
    # The tables come last: a folder without label.csv is known to be incomplete.
    for usage, lines in tables.items():
        if lines:
            (output / USAGES[usage] / "label.csv").write_text("\n".join(lines) + "\n")
    return {USAGES[usage]: len(lines) for usage, lines in tables.items()}


def _open(path: Path) -> TextIO:
    try:
        return path.open(newline="")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
