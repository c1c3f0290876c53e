"""A data set in the FER+ layout that is made here, and that anything can learn."""

from pathlib import Path

import cv2
import numpy as np

from worker.record import EMOTIONS

NAMES = ("happiness", "anger")


def toy_faces(seed: int, count: int) -> tuple[np.ndarray, list[str]]:
    """Faces uint8 ``(count, 48, 48)`` of two kinds: bright above, or bright below."""
    random = np.random.default_rng(seed)
    pictures = random.integers(0, 80, (count, 48, 48)).astype(np.uint8)
    kinds = [NAMES[i % 2] for i in range(count)]
    for picture, kind in zip(pictures, kinds, strict=True):
        half = slice(0, 24) if kind == "happiness" else slice(24, 48)
        picture[half] += 150
    return pictures, kinds


def write_toy_data(folder: Path) -> Path:
    """40 faces to train on and 16 to validate with."""
    for split, count in (("FER2013Train", 40), ("FER2013Valid", 16)):
        (folder / split).mkdir()
        pictures, kinds = toy_faces(count, count)
        lines = []
        for i, (picture, kind) in enumerate(zip(pictures, kinds, strict=True)):
            cv2.imwrite(str(folder / split / f"{i}.png"), picture)
            votes = [0] * 10
            votes[EMOTIONS.index(kind)] = 10
            lines.append(f'{i}.png,"(0, 0, 48, 48)",{",".join(map(str, votes))}')
        (folder / split / "label.csv").write_text("\n".join(lines) + "\n")
    return folder
