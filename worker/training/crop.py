"""`crop`: the faces of one's own images, cut out as training sees them."""

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import cv2

from worker.analysis.cropping import Picture, crop_face, resize
from worker.analysis.decoding import decode
from worker.analysis.pipeline import Pipeline
from worker.analysis.sources import Source, read_image
from worker.config import Config
from worker.errors import ImageLost, UsageError
from worker.files import replace_file
from worker.record import Face

SIDE = 48  # pixels, as in FER+
TABLE = "crops.csv"
COLUMNS = ("file", "source", "x1", "y1", "x2", "y2", "emotion", "probability")
HASH_SIDE = 12  # 144 bits: 64 tell fewer strangers apart
# Bits that two crops of one face may differ in. Of faces found again in photographs that were made
# smaller, brighter or noisy, cut or compressed, 78 of 100 are so near. Of 4,000 faces of FER+, 3.4
# of 100 have another so near, more than half of these because FER+ has them twice.
NEAR = 18


@dataclass
class Cropped:
    """``faces`` new crops were written, ``duplicates`` left out; ``bad``: image, what is wrong."""

    images: int = 0
    faces: int = 0
    duplicates: int = 0
    bad: list[tuple[Path, str]] = field(default_factory=list)


def crop_faces(
    sources: Iterable[Source], config: Config, output: Path, advance: Callable[[], None]
) -> Cropped:
    """Write the faces of ``sources`` into ``output`` as gray PNG files, SIDE pixels square, and
    what each of them is into crops.csv there; ``advance`` is called after each image.

    A crop is named after its pixels: the same image given again changes nothing, and votes stay
    with their face. What is left out is a crop that differs little from one that is there already.
    An image that cannot be read is noted, and the next one follows. Raises UsageError for a
    crops.csv that is none, Stop if the folder cannot be written to.
    """
    rows = _read_table(output / TABLE)
    seen = [difference_hash(_read_crop(output / name)) for name in rows]
    pipeline, done, own = Pipeline(config), Cropped(), output.resolve()
    try:
        for source in sources:
            if own in source.path.resolve().parents:  # `crop . --output faces/`, a second time
                continue
            try:
                content = read_image(source.path, config.server.max_image_bytes)
                faces = pipeline.analyze(content).faces
                gray = decode(content, max_pixels=config.server.max_image_pixels)
            except ImageLost as lost:
                done.bad.append((source.path, str(lost)))
                faces = ()
            for face in faces:
                crop = crop_face(gray, face.box, SIDE)
                mark = difference_hash(crop)
                if any((mark ^ other).bit_count() <= NEAR for other in seen):
                    done.duplicates += 1
                    continue
                seen.append(mark)
                name = f"{sha256(crop.tobytes()).hexdigest()[:16]}.png"
                replace_file(output / name, _png(crop))
                rows[name] = _row(name, source.path, face)
                done.faces += 1
            done.images += 1
            advance()
    finally:
        # Also if a person or a full disk ended it: what is written is listed.
        if rows:
            _write_table(output / TABLE, rows.values())
    return done


def difference_hash(crop: Picture) -> int:
    """Which of two neighbours, left or right, is brighter, all over a crop shrunk to 13 by 12.

    ``crop``: uint8 ``(side, side)``. Result: 144 bits; crops that look alike differ in few of them
    (Krawetz, "Kind of Like That", 2013, https://www.hackerfactor.com/blog/?/archives/529).
    """
    small = cv2.resize(crop, (HASH_SIDE + 1, HASH_SIDE), interpolation=cv2.INTER_AREA)
    bits = small[:, 1:] > small[:, :-1]
    return int("".join("01"[bit] for bit in bits.ravel().tolist()), 2)


def _row(name: str, source: Path, face: Face) -> tuple[str, ...]:
    emotion, probability = max(face.probabilities.items(), key=lambda pair: pair[1])
    box = face.box
    place = (str(value) for value in (box.x1, box.y1, box.x2, box.y2))
    return (name, str(source), *place, emotion, f"{probability:.2f}")


def _png(crop: Picture) -> bytes:
    encoded, content = cv2.imencode(".png", crop)
    assert encoded
    return content.tobytes()


def _read_crop(path: Path) -> Picture:
    try:
        return resize(decode(path.read_bytes()), SIDE)
    except (OSError, ImageLost) as error:
        raise UsageError(
            f"{path.parent / TABLE} lists {path.name}, which cannot be read; "
            "put it back, or name another --output"
        ) from error


def _read_table(path: Path) -> dict[str, tuple[str, ...]]:
    """The lines of crops.csv by file; none if there is no such file."""
    if not path.exists():
        return {}
    # Names of files are any bytes: they come back as they were.
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        lines = [tuple(line) for line in csv.reader(file)]
    if not lines or lines[0] != COLUMNS or any(len(line) != len(COLUMNS) for line in lines):
        raise UsageError(f"{path} is not a file of `crop`; name another --output")
    return {line[0]: line for line in lines[1:]}


def _write_table(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([COLUMNS, *rows])
    replace_file(path, text.getvalue().encode("utf-8", "surrogateescape"))
