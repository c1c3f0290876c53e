"""`crop`: the faces of one's own images, cut out as training sees them."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray

from worker.analysis.cropping import crop_face
from worker.analysis.decoding import decode
from worker.analysis.pipeline import Pipeline
from worker.analysis.sources import Source, read_image
from worker.config import Config
from worker.errors import ImageLost
from worker.training.dataset import write_picture
from worker.training.tables import read_named_rows, write_rows

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


def crop_faces(sources: Iterable[Source], config: Config, output: Path) -> Cropped:
    """Write the faces of ``sources`` into ``output`` as gray PNG files, SIDE pixels square, and
    what each of them is into crops.csv there.

    A crop is named after its pixels: the same image given again changes nothing, and votes stay
    with their face. What is left out is a crop that differs little from one that is there already.
    An image that cannot be read is noted, and the next one follows. Raises UsageError for a
    crops.csv that is none, Stop if the folder cannot be written to.
    """
    table, own = output / TABLE, output.resolve()
    listed = read_named_rows(table, *COLUMNS) if table.exists() else ()
    rows = {row["file"]: [row[name] for name in COLUMNS] for _, row in listed}
    there = (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in output.glob("*.png"))
    seen = [difference_hash(crop) for crop in there if crop is not None]
    pipeline, done = Pipeline(config), Cropped()
    try:
        for source in sources:
            if own in source.path.resolve().parents:  # `crop . --output faces/`, a second time
                continue
            done.images += 1
            try:
                content = read_image(source.path, config.server.max_image_bytes)
                faces = pipeline.analyze(content).faces
                gray = decode(content, max_pixels=config.server.max_image_pixels)
            except ImageLost as lost:
                done.bad.append((source.path, str(lost)))
                continue
            for face in faces:
                crop = crop_face(gray, face.box, SIDE)
                mark = difference_hash(crop)
                if any((mark ^ other).bit_count() <= NEAR for other in seen):
                    done.duplicates += 1
                    continue
                seen.append(mark)
                name = f"{sha256(crop.tobytes()).hexdigest()[:16]}.png"
                write_picture(output / name, crop)
                emotion = max(face.probabilities, key=face.probabilities.__getitem__)
                box = map(str, astuple(face.box))
                surest = f"{face.probabilities[emotion]:.2f}"
                rows[name] = [name, str(source.path), *box, emotion, surest]
                done.faces += 1
    finally:
        # Also if a person or a full disk ended it: what is written is listed.
        if rows:
            write_rows(table, [COLUMNS, *rows.values()])
    return done


def difference_hash(crop: NDArray[Any]) -> int:
    """Which of two neighbours, left or right, is brighter, all over a crop shrunk to 13 by 12.

    ``crop``: uint8 ``(side, side)``. Result: 144 bits; crops that look alike differ in few of them
    (Krawetz, "Kind of Like That", 2013, https://www.hackerfactor.com/blog/?/archives/529).
    """
    small = cv2.resize(crop, (HASH_SIDE + 1, HASH_SIDE), interpolation=cv2.INTER_AREA)
    bits = small[:, 1:] > small[:, :-1]
    return int("".join("01"[bit] for bit in bits.ravel().tolist()), 2)
