"""Labelled faces on disk, in either of two forms, and what their votes mean.

FER+: a folder with the PNG files and a label.csv, whose lines are ``file,box`` and ten vote counts:
the eight emotions, unknown, not-a-face. Or a folder for each emotion: ``anger/a.png``. FER+ comes
in splits (``FER2013Train``, ``FER2013Valid``, ``FER2013Test``); a data set without splits lends a
tenth of its faces for validation.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.errors import UsageError
from worker.files import IMAGE_SUFFIXES, is_clutter, replace_file
from worker.record import EMOTIONS, FACE_CLASSES
from worker.training.tables import LABELS, VOTE_COLUMNS, WHOLE, parse_box, parse_votes, read_rows

TRAIN_SPLIT, VALID_SPLIT, TEST_SPLIT = SPLITS = "FER2013Train", "FER2013Valid", "FER2013Test"
VOTERS = 10  # so many people a face in an emotion's folder, or a mined window, counts for
HELD_OUT_OF = 10
# A face whose majority is a rare emotion is seen this often an epoch.
REPEATS = {"disgust": 5, "contempt": 4, "fear": 2}


@dataclass(frozen=True)
class Faces:
    """Labelled faces.

    ``crops``: uint8 ``(n, side, side)``, gray (FER+: 48).
    ``votes``: int64 ``(n, 10)``, as they were cast.
    ``boxes``: int64 ``(n, 4)``, of the face in pixels of the crop: x1, y1, x2, y2.
    """

    crops: NDArray[np.uint8]
    votes: NDArray[np.int64]
    boxes: NDArray[np.int64]


def load_split(data: Path, split: str) -> Faces:
    """As `load_splits`, of one data set."""
    return load_splits([data], split)


def load_splits(folders: Sequence[Path], split: str) -> Faces:
    """Read ``folder/split`` of each data set, or, if ``folder`` itself holds the faces, its part
    for that split: a tenth of them, chosen by their names, or for training the others.

    Raises UsageError that says what is wrong: no such folder, no labels, a malformed line, an
    unknown class, or pictures that are missing, unreadable or not all of one square size (how many,
    which first).
    """
    labelled = [each for data in folders for each in _find(data, split)]
    pictures = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path, *_ in labelled]
    side = next((len(picture) for picture in pictures if picture is not None), 0)
    good = [picture is not None and picture.shape == (side, side) for picture in pictures]
    if not all(good):
        raise UsageError(
            f"{good.count(False)} of {len(good)} pictures are missing, unreadable or not "
            f"{side}x{side} like the rest; the first is {labelled[good.index(False)][0]} "
            "(`crop` makes square crops of one size)"
        )
    votes = np.array([counts for _, counts, _ in labelled], np.int64).reshape(-1, VOTE_COLUMNS)
    boxes = np.array([box for *_, box in labelled], np.int64).reshape(-1, len(WHOLE))
    return Faces(np.array(pictures, np.uint8).reshape(len(good), side, side), votes, boxes)


def _find(data: Path, split: str) -> list[tuple[Path, list[int], list[int]]]:
    """The pictures of a data set's split, their votes and boxes."""
    undivided = split in SPLITS and not any((data / name).is_dir() for name in SPLITS)
    folder = data if undivided else data / split
    if not folder.is_dir():
        raise UsageError(f"--data: there is no folder {folder}")
    find = _read_labels if (folder / LABELS).is_file() else _list_classes
    return [
        (folder / name, votes, box)
        for name, votes, box in find(folder)
        # By name, so that a face stays on its side when others are added.
        if not undivided or (zlib.crc32(name.encode()) % HELD_OUT_OF > 0) == (split == TRAIN_SPLIT)
    ]


def _read_labels(folder: Path) -> Iterator[tuple[str, list[int], list[int]]]:
    """Name, votes and box of each face in label.csv."""
    table, home = folder / LABELS, folder.resolve()
    for line, (name, *cells) in read_rows(table):
        try:
            votes = parse_votes(cells[1:])
        except ValueError:
            raise UsageError(
                f"{table}, line {line}: expected file,box and ten vote counts"
            ) from None
        if not (home / name).resolve().is_relative_to(home):
            raise UsageError(f"{table}, line {line}: {name} leads out of the folder")
        yield name, votes, parse_box(cells[0])


def _list_classes(folder: Path) -> Iterator[tuple[str, list[int], list[int]]]:
    """Name, votes and box of each face in the folders for emotions."""
    inside = (path.relative_to(folder) for path in folder.glob("*/*"))
    images = (path for path in inside if path.suffix.lower() in IMAGE_SUFFIXES)
    faces = sorted(path for path in images if not is_clutter(path))
    unknown = sorted({path.parent.name for path in faces} - {*EMOTIONS})
    if unknown or not faces:
        raise UsageError(
            f"{folder}: expected a label.csv (FER+), or images in folders named after emotions "
            f"({', '.join(EMOTIONS)}); found {', '.join(unknown) or 'none'}"
        )
    for path in faces:
        votes = [0] * VOTE_COLUMNS
        votes[EMOTIONS.index(path.parent.name)] = VOTERS
        yield path.as_posix(), votes, WHOLE


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture as PNG, as a whole; makes the folder. Raises Stop."""
    replace_file(path, cv2.imencode(".png", picture)[1].tobytes())


def clean_votes(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Votes ``(n, 10)`` without single ones, which the FER+ paper treats as noise."""
    return np.where(votes > 1, votes, 0)


def majority_labels(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels ``(n,)`` of votes ``(n, 10)`` by the majority protocol of Barsoum et al. 2016.

    0..7 if one emotion has more than half of the votes left after single ones are dropped;
    -1 if none has (no majority, or it is for unknown or not-a-face): such a face does not count.
    """
    votes = clean_votes(votes)
    top = votes.argmax(axis=1)
    wins = votes.max(axis=1) * 2 > votes.sum(axis=1)
    return np.where(wins & (top < len(EMOTIONS)), top, -1)


def face_labels(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels ``(n,)`` of votes ``(n, 10)`` for face_net: 0 a face, 1 none, -1 undecided."""
    votes = clean_votes(votes)
    none, total = votes[:, -1] * 2, votes.sum(axis=1)
    return np.where(none == total, -1, none > total)


@dataclass(frozen=True)
class Lesson:
    """Faces to train on with what is to be learned of each.

    ``crops``: uint8 ``(n, side, side)``. ``targets``: float32 ``(n, classes)``, a row sums to 1.
    """

    crops: NDArray[np.uint8]
    targets: NDArray[np.float32]


def labels_for(classes: Sequence[str], votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The class ``(n,)`` of votes ``(n, 10)`` for a network with these classes; -1: none."""
    return face_labels(votes) if tuple(classes) == FACE_CLASSES else majority_labels(votes)


def class_shares(classes: Sequence[str], votes: NDArray[np.int64]) -> dict[str, float]:
    """How often each class is the majority of votes ``(n, 10)``, fractions of those that have one:
    what a network expects of faces that it has not looked at."""
    labels = labels_for(classes, votes)
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    shares = counts / max(counts.sum(), 1)
    return {name: round(float(share), 4) for name, share in zip(classes, shares, strict=True)}


def lesson_for(classes: Sequence[str], faces: Faces) -> Lesson:
    """What faces teach a network with these classes.

    Emotions: their shares of the votes for emotions, single ones dropped, if most of the votes left
    are for emotions; a face with a rare majority stands there `REPEATS` times, others once. Or
    whether it is a face.
    """
    if tuple(classes) == FACE_CLASSES:
        labels = face_labels(faces.votes)
        known = labels >= 0
        targets = np.eye(len(FACE_CLASSES), dtype=np.float32)[labels[known]]
        return Lesson(faces.crops[known], targets)
    votes = clean_votes(faces.votes)
    of_emotions = votes[:, : len(EMOTIONS)]
    usable = np.flatnonzero(of_emotions.sum(axis=1) * 2 > votes.sum(axis=1))
    repeats = np.array([*(REPEATS.get(name, 1) for name in EMOTIONS), 1])  # the last: no majority
    chosen = np.repeat(usable, repeats[majority_labels(votes[usable])])
    targets = of_emotions[chosen] / of_emotions[chosen].sum(axis=1, keepdims=True)
    return Lesson(faces.crops[chosen], targets.astype(np.float32))
