"""The FER+ data set on disk: folders with label.csv and the PNG files that it names.

A line of label.csv is ``file,box`` and ten vote counts: the eight emotions, unknown, not-a-face.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.emotions import EMOTIONS
from worker.errors import UsageError

VOTE_COLUMNS = len(EMOTIONS) + 2  # and unknown, not-a-face


@dataclass(frozen=True)
class Faces:
    """Labelled faces.

    ``crops``: uint8 ``(n, 48, 48)``, gray. ``votes``: int64 ``(n, 10)``, as they were cast.
    """

    crops: NDArray[np.uint8]
    votes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.crops)

    def select(self, keep: NDArray[np.bool_]) -> "Faces":
        return Faces(self.crops[keep], self.votes[keep])


def load_split(data: Path, split: str) -> Faces:
    """Read ``data/split``: label.csv and the PNG files that it names.

    Raises UsageError that says what is wrong: no folder, no label.csv, a malformed line, or
    pictures that are missing, unreadable or not all of one square size (how many, which first).
    """
    folder = data / split
    table = folder / "label.csv"
    if not table.is_file():
        raise UsageError(f"no FER+ data: {table} is missing (--data is the folder of splits)")
    names: list[str] = []
    votes: list[list[int]] = []
    with table.open(newline="") as lines:
        for number, line in enumerate(csv.reader(lines), 1):
            try:
                counts = [int(count) for count in line[2:]]
            except ValueError:
                counts = []
            if len(counts) != VOTE_COLUMNS or min(counts) < 0:
                raise UsageError(f"{table}, line {number}: expected file,box and ten vote counts")
            names.append(line[0])
            votes.append(counts)
    if not names:
        raise UsageError(f"{table} names no pictures")
    pictures = [cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE) for name in names]
    size = next((picture.shape for picture in pictures if picture is not None), (0, 0))
    bad = [
        name
        for name, picture in zip(names, pictures, strict=True)
        if picture is None or picture.shape != size
    ]
    if bad or size[0] != size[1]:
        raise UsageError(
            f"{folder}: {len(bad)} of {len(names)} pictures are missing, unreadable or not "
            f"{size[0]}x{size[0]} like the rest; the first is {bad[0] if bad else names[0]}"
        )
    return Faces(np.array(pictures, dtype=np.uint8), np.array(votes, dtype=np.int64))


def clean_votes(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Votes ``(n, 10)`` without single ones, which the FER+ paper treats as noise."""
    return np.where(votes > 1, votes, 0)


def majority_labels(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels ``(n,)`` of votes ``(n, 10)`` by the majority protocol of Barsoum et al. 2016.

    0..7 where one emotion has more than half of the votes left after single ones are dropped;
    -1 where none has (no majority, or it is for unknown or not-a-face): such a face does not count.
    """
    votes = clean_votes(votes)
    top = votes.argmax(axis=1)
    wins = votes.max(axis=1) * 2 > votes.sum(axis=1)
    return np.where(wins & (top < len(EMOTIONS)), top, -1)


def target_distributions(votes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Targets float32 ``(n, 8)``: each emotion's share of the emotion votes, single ones dropped.

    A row sums to 1, or is all 0 where no emotion has votes left.
    """
    emotion_votes = clean_votes(votes)[:, : len(EMOTIONS)].astype(np.float32)
    totals = emotion_votes.sum(axis=1, keepdims=True)
    return np.asarray(emotion_votes / np.maximum(totals, 1), np.float32)


def usable_for_training(votes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of votes ``(n, 10)`` teach something: most of the votes left are for emotions."""
    cleaned = clean_votes(votes)
    emotion_votes = cleaned[:, : len(EMOTIONS)].sum(axis=1)
    return np.asarray(emotion_votes * 2 > cleaned.sum(axis=1))
