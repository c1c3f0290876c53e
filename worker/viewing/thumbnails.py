"""Small pictures with the faces' boxes, for the report, made from kept images."""

import base64
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from worker.analysis.decoding import decode
from worker.database.kept_images import stem
from worker.errors import ImageLost
from worker.record import Box, Record
from worker.viewing.drawing import FOR_PAGES, encode, mark

SIDE = 160  # pixels, of the longer one


def thumbnails(records: Iterable[Record], folder: Path) -> dict[str, str]:
    """By task id, `data:` addresses of the records whose image is kept and can be read."""
    tasks = {str(record["task_id"]): record for record in records if "task_id" in record}
    made = {}
    for task, record in tasks.items():
        for path in folder.glob(f"{stem(task)}.*"):
            # No picture if it was removed meanwhile, is damaged, or a box is none.
            with suppress(OSError, ImageLost, ValueError, TypeError):
                made[task] = _thumbnail(path.read_bytes(), record)
    return made


def _thumbnail(content: bytes, record: Record) -> str:
    picture = decode(content, color=True)
    scale = min(1.0, SIDE / max(picture.shape[:2]))
    small = np.asarray(
        cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
    )
    boxes = [
        Box(*(round(int(value) * scale) for value in face["bbox"])) for face in record["faces"]
    ]
    taken = [*boxes]
    for face, box in zip(record["faces"], boxes, strict=True):
        mark(small, box, [str(face["face_id"])], taken)
    jpeg = encode(small, ".jpg", FOR_PAGES)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
