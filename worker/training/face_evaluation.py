"""How well faces are found: `evaluate faces`, and windows from which face_net learns.

Pictures with true boxes: ``DIR/images/*`` and ``DIR/boxes.csv`` with the columns
``file_name,x1,y1,x2,y2``, one line a face; an image without a line has no face.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from worker.analysis.cropping import Picture, crop_face
from worker.analysis.decoding import decode
from worker.analysis.detection import Detection, FaceDetector, SearchSettings
from worker.analysis.face_net import FaceNet
from worker.analysis.grouping import overlaps
from worker.errors import ImageLost, UsageError
from worker.files import is_clutter
from worker.hints import Slip, number
from worker.record import EMOTIONS, Box
from worker.training.dataset import VOTERS, write_picture
from worker.training.evaluation import calibration_figures, wilson_interval
from worker.training.tables import LABELS, read_named_rows, write_rows

COLUMNS = ("file_name", "x1", "y1", "x2", "y2")
MATCH = 0.4  # intersection over union of squared boxes from which a face is found
MINED_FACE, MINED_OTHER = 0.5, 0.2  # at least, below: of windows that show a face, or none
CONFIDENCES = 1 / (1 + np.exp(-np.linspace(-6, 6, 61)))  # of the curve: even steps of log-odds
BINS = 10  # of the reliability diagram
CROP_SIDE = 48  # pixels, as in FER+
_pixels = number(float, -1e6, 1e6, " pixels")
TRUE_COLOR, FOUND_COLOR, FALSE_COLOR = (255, 160, 0), (64, 220, 64), (48, 48, 255)  # BGR


@dataclass(frozen=True)
class LabelledPicture:
    """An image file and the true boxes float64 ``(n, 4)`` of its faces: x1, y1, x2, y2."""

    path: Path
    boxes: NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """What `evaluate faces` found: the figures, the curve, and for all that was found, however
    unsure, its confidence ``(n,)`` and whether it is a face ``(n,)``. A point of the curve is what
    asking for a confidence gives: that, false faces a picture, and the share found of true ones.
    """

    figures: dict[str, Any]
    curve: list[tuple[float, float, float]]
    confidence: NDArray[np.float64]
    correct: NDArray[np.bool_]


@dataclass(frozen=True)
class Searched:
    """What was found in one picture. ``matched[i]``: the true box of what was found i-th, or -1."""

    picture: LabelledPicture
    found: list[Detection]
    matched: NDArray[np.int64]


def load_pictures(data: Path) -> list[LabelledPicture]:
    """All images of ``data/images`` by name, with their true boxes.

    Raises UsageError for a folder without them, a malformed line, or a box of a missing image.
    """
    table, folder = data / "boxes.csv", data / "images"
    if not table.is_file() or not folder.is_dir():
        raise UsageError(f"--data: {data} needs a folder images/ and a file boxes.csv")
    boxes: dict[str, list[list[float]]] = {
        path.name: []
        for path in sorted(folder.iterdir())
        if path.is_file() and not is_clutter(Path(path.name))
    }
    for line, row in read_named_rows(table, *COLUMNS):
        name, *corners = (row[column] for column in COLUMNS)
        if name not in boxes:
            raise UsageError(f"{table}, line {line}: there is no images/{name}")
        try:
            x1, y1, x2, y2 = map(_pixels, corners)
        except Slip as slip:
            raise UsageError(f"{table}, line {line}: a corner {slip}") from None
        if not (x1 < x2 and y1 < y2):
            raise UsageError(f"{table}, line {line}: x1 must be below x2, and y1 below y2")
        boxes[name].append([x1, y1, x2, y2])
    return [
        LabelledPicture(folder / name, np.array(own, float).reshape(-1, 4))
        for name, own in boxes.items()
    ]


def evaluate_faces(
    data: Path,
    settings: SearchSettings,
    face_net: FaceNet,
    progress: Progress,
    failures: Path | None = None,
) -> Measured:
    """Search every picture, and compare with its true boxes.

    In the figures ``recall`` and ``precision`` are fractions, ``recall_interval`` is the 95 %
    interval of the recall, ``ms_per_image`` the mean time of detection on the decoded image with
    one thread, ``image_pixels`` the mean size. ``failures``: folder for the pictures with missed or
    false faces, drawn in. Raises UsageError for unusable data or a picture that does not decode.
    """
    cv2.setNumThreads(1)
    pictures = load_pictures(data)
    if not pictures:
        raise UsageError(f"--data: there is no image in {data / 'images'}")
    detector = FaceDetector(replace(settings, min_confidence=0), face_net)
    seconds, pixels, every, kept = 0.0, 0, [], []
    for picture in progress.track(pictures, description="searching"):
        gray = _read(picture.path)
        started = time.perf_counter()
        detections = detector.detect(gray)
        seconds += time.perf_counter() - started
        pixels += gray.size
        every.append(_judged(picture, detections, 0))
        kept.append(_judged(picture, detections, settings.min_confidence))
        if failures is not None:
            _draw_failure(kept[-1], failures)
    faces = sum(len(picture.boxes) for picture in pictures)
    found, correct = _totals(kept)
    figures = {
        "images": len(pictures),
        "faces": faces,
        "found": found,
        "correct": correct,
        "false_positives": found - correct,
        "recall": correct / faces if faces else None,
        "recall_interval": list(wilson_interval(correct, faces)) if faces else None,
        "precision": correct / found if found else None,
        "ms_per_image": seconds * 1000 / len(pictures),
        "image_pixels": pixels / len(pictures),
    }
    curve = []
    for asked in CONFIDENCES:
        found, correct = _totals([_judged(each.picture, each.found, asked) for each in every])
        false = (found - correct) / len(pictures)
        curve.append((float(asked), false, correct / faces if faces else 0.0))
    confidence = np.array([found.confidence for each in every for found in each.found])
    correct_ones = np.concatenate([each.matched >= 0 for each in every])
    return Measured(figures, curve, confidence, correct_ones)


def draw_detection(measured: Measured, min_confidence: float, folder: Path) -> None:
    """detection.png, the curve, and reliability.png in ``folder``, which is made."""
    from worker.training.plots import plot_detection, plot_reliability  # with matplotlib

    plot_detection(measured.curve, min_confidence, folder / "detection.png")
    bins = calibration_figures(measured.confidence, measured.correct, BINS)
    plot_reliability(bins, folder / "reliability.png")


def mine_windows(
    data: Path,
    settings: SearchSettings,
    face_net: FaceNet,
    output: Path,
    progress: Progress,
    hard: float = 0,
) -> tuple[int, int]:
    """Write windows of the first stage as faces to train face_net on, in FER+'s layout.

    Those that overlap a true box well get votes for a face (of an emotion unknown), those that
    overlap none get votes for not-a-face. Beside a face stands its box in the window. Left out is
    what the second stage knows better than ``hard``, a probability: it would teach it nothing.
    Returns how many of each.
    """
    detector = FaceDetector(settings, face_net)
    rows: list[tuple[object, ...]] = []
    faces = 0
    for picture in progress.track(load_pictures(data), description="mining"):
        gray, squares = _read(picture.path), _squared(picture.boxes)
        windows = detector.windows(gray)
        scores, _ = face_net.look(gray, windows)
        for place, (window, score) in enumerate(zip(windows, scores, strict=True)):
            shared = overlaps(window, squares)
            best = shared.max(initial=0)
            is_face = int(best >= MINED_FACE)
            if MINED_OTHER <= best < MINED_FACE or abs(is_face - score) < hard:
                continue
            name = f"{picture.path.name}-{place}.png"
            crop = crop_face(gray, Box(*window.round().astype(int)), CROP_SIDE)
            write_picture(output / name, crop)
            true = squares[shared.argmax()] if is_face else window
            corners = (true - np.tile(window[:2], 2)) * CROP_SIDE / (window[2] - window[0])
            box = tuple(corners.round().astype(int).tolist())
            rows.append((name, box, *[0] * len(EMOTIONS), VOTERS * is_face, VOTERS * (1 - is_face)))
            faces += is_face
    write_rows(output / LABELS, rows)
    return faces, len(rows) - faces


def match(found: Sequence[Box], true: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each found box the index of its true box ``(n, 4)``, or -1.

    All boxes are made squares of the same area and centre; pairs are taken greedily by intersection
    over union, from MATCH up, each box once.
    """
    matched = np.full(len(found), -1)
    if not len(found) or not len(true):
        return matched
    own = np.array([(box.x1, box.y1, box.x2, box.y2) for box in found], float)
    table = np.array([overlaps(box, _squared(true)) for box in _squared(own)])
    while table.max() >= MATCH:
        i, j = np.unravel_index(table.argmax(), table.shape)
        matched[i] = j
        table[i, :] = table[:, j] = -1
    return matched


def _squared(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1, keepdims=True)) / 2
    return np.hstack([centers - half, centers + half])


def _read(path: Path, *, color: bool = False) -> Picture:
    try:
        return decode(path.read_bytes(), color=color)
    except ImageLost as error:
        raise UsageError(f"{path}: {error}") from error


def _judged(
    picture: LabelledPicture, detections: Sequence[Detection], confidence: float
) -> Searched:
    """What asking for this confidence leaves of the detections, each beside its true box."""
    found = [each for each in detections if each.confidence >= confidence]
    return Searched(picture, found, match([each.box for each in found], picture.boxes))


def _totals(searched: Sequence[Searched]) -> tuple[int, int]:
    """How many boxes were found, and how many of them are faces."""
    found = sum(len(each.found) for each in searched)
    return found, sum(int((each.matched >= 0).sum()) for each in searched)


def _draw_failure(searched: Searched, folder: Path) -> None:
    """True boxes orange, found ones green, false ones red; nothing where all is right."""
    true = searched.picture.boxes
    if len(set(searched.matched) - {-1}) == len(true) == len(searched.found):
        return
    picture = _read(searched.picture.path, color=True)
    for corners in true.round().astype(int).tolist():
        cv2.rectangle(picture, corners[:2], corners[2:], TRUE_COLOR, 2)
    for found, index in zip(searched.found, searched.matched, strict=True):
        box = found.box
        color = FALSE_COLOR if index < 0 else FOUND_COLOR
        cv2.rectangle(picture, (box.x1, box.y1), (box.x2, box.y2), color, 2)
        sure, place = f"{found.confidence:.2f}", (box.x1 + 3, box.y1 + 14)
        cv2.putText(picture, sure, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, color)
    write_picture(folder / f"{searched.picture.path.name}.png", picture)
