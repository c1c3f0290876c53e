"""`analyze`: images and folders without a server; prints what is found, draws it, stores it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

from worker.config import Config
from worker.errors import ImageLost, UsageError
from worker.faces import Analysis, Face
from worker.pipeline import Pipeline
from worker.preprocessing import Picture, decode
from worker.record import Record, build_record, face_entry
from worker.results import emotions

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
COLOR = (64, 220, 64)  # blue, green, red


@dataclass(frozen=True)
class Source:
    """An image file, and the name under which its annotated copy is written."""

    path: Path
    name: Path


def find_images(paths: Iterable[Path]) -> list[Source]:
    """The files named, and the images in the folders named and below, each folder in order.

    Raises UsageError for a path that is not there, or a folder without an image.
    """
    sources = []
    for path in paths:
        if path.is_dir():
            inside = [
                Source(file, file.relative_to(path))
                for file in sorted(path.rglob("*"))
                if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
            ]
            if not inside:
                raise UsageError(f"{path}: no image in this folder ({', '.join(IMAGE_SUFFIXES)})")
            sources += inside
        elif path.is_file():
            sources.append(Source(path, Path(path.name)))
        else:
            raise UsageError(f"{path}: there is no such file or folder")
    return sources


def analyze_files(
    sources: Iterable[Source], config: Config, threshold: float, annotated: Path | None
) -> Iterator[Record]:
    """Analyse one file after the other; a file that is no image gives an error record.

    ``threshold``: 0..1. ``annotated``: folder for copies with boxes, emotions and probabilities
    drawn in. Raises UsageError where that cannot be written or the weights cannot be used.
    """
    pipeline = Pipeline(config)
    for source in sources:
        outcome: Analysis | ImageLost
        try:
            content = read_image(source.path, config.server.max_image_bytes)
            outcome = pipeline.analyze(content)
            if annotated is not None:
                picture = draw(decode(content, color=True), outcome.faces, threshold)
                _write(annotated / source.name, picture)
        except ImageLost as lost:
            outcome = lost
        yield build_record(
            file_name=str(source.path),
            threshold=threshold,
            outcome=outcome,
            task_id=None,
            worker=config.worker.id,
            network=pipeline.classifier.facts.network,
        )


def draw(picture: Picture, faces: Iterable[Face], threshold: float) -> Picture:
    """Draw boxes and the emotions that reach the threshold into uint8 ``(height, width, 3)``.

    The words stand below the box, above it where there is no room below, as wide as the box.
    """
    for number, face in enumerate(faces, 1):
        box = face.box
        size = min(max((box.x2 - box.x1) / 250, 0.4), 3.0)
        step, stroke = round(32 * size), max(1, round(2 * size))
        cv2.rectangle(picture, (box.x1, box.y1), (box.x2, box.y2), COLOR, stroke)
        named = emotions(face_entry(number, face, threshold))
        lines = [f"{name} {value:.2f}" for name, value in named] or ["-"]
        below = box.y2 + len(lines) * step <= picture.shape[0]
        first = box.y2 + step if below else box.y1 - (len(lines) - 1) * step - step // 3
        for row, line in enumerate([f"{number} {lines[0]}", *lines[1:]]):
            place = (box.x1, first + row * step)
            for color, width in (((0, 0, 0), 3 * stroke), (COLOR, stroke)):
                cv2.putText(
                    *(picture, line, place, cv2.FONT_HERSHEY_SIMPLEX, size, color, width),
                    cv2.LINE_AA,
                )
    return picture


def read_image(path: Path, limit: int) -> bytes:
    """An image file's bytes. Raises ImageLost where it cannot be read or has over ``limit``."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ImageLost("unreadable", f"cannot read it: {error.strerror}") from error
    if len(content) > limit:
        raise ImageLost("too_large", f"it has more than [server] max_image_bytes = {limit}")
    return content


def _write(path: Path, picture: Picture) -> None:
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        path = path.with_name(path.name + ".png")
    encoded, content = cv2.imencode(path.suffix.lower(), picture)
    assert encoded
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.tobytes())
    except OSError as error:
        raise UsageError(f"--annotated: cannot write {path}: {error.strerror}") from error
