"""From the two files that users can download to the FER+ layout: `train --prepare`."""

from pathlib import Path

import numpy as np

from worker.errors import UsageError
from worker.training.dataset import SPLITS, write_picture
from worker.training.tables import parse_votes, read_named_rows, write_labels

SIDE = 48
USAGES = dict(zip(("Training", "PublicTest", "PrivateTest"), SPLITS, strict=True))


def prepare(pixels_file: Path, votes_file: Path, output: Path) -> dict[str, int]:
    """Write ``output/FER2013Train|Valid|Test`` with PNG files and label.csv; faces by split.

    ``pixels_file``: Kaggle's fer2013.csv or icml_face_data.csv (emotion, pixels, Usage);
    ``votes_file``: Microsoft's fer2013new.csv (Usage, Image name and ten vote counts), line for
    line about the same pictures. A picture without a name there has no face, and is left out.
    Raises UsageError that names the file and line that is not of this form.
    """
    labels: dict[str, dict[str, list[int]]] = {split: {} for split in SPLITS}
    pictures = read_named_rows(pixels_file, "pixels", "usage")
    for line, row in read_named_rows(votes_file, "usage", "image name"):
        pixel_line, pixels = next(pictures, (line, {"usage": "", "pixels": ""}))
        usage, name, *cells = row.values()
        try:
            split, votes = USAGES[usage], parse_votes(cells)
            picture = np.array(pixels["pixels"].split(), np.uint8).reshape(SIDE, SIDE)
            if pixels["usage"] != usage:
                raise ValueError("two pictures")
        except (KeyError, ValueError, OverflowError) as error:
            raise UsageError(
                f"{votes_file}, line {line}, and {pixels_file}, line {pixel_line}: not as in "
                f"fer2013new.csv and fer2013.csv, or not about the same picture: {error}"
            ) from error
        if name:
            path = output / split / Path(name).with_suffix(".png").name
            write_picture(path, picture)
            labels[split][path.name] = votes
    # The tables come last: a folder without label.csv is known to be incomplete.
    for split, votes_of in labels.items():
        write_labels(output / split, votes_of)
    return {split: len(votes_of) for split, votes_of in labels.items()}
