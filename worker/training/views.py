"""Augmented training faces and what teachers say of each, made once and used by every pupil."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.errors import UsageError
from worker.training.augmentation import augment
from worker.training.teachers import Teachers

BATCH = 256
TRIED = 64  # faces whose time tells what all will take


@dataclass(frozen=True)
class View:
    """Each training face once, augmented but not erased: ``faces`` uint8 ``(n, side, side)``, and
    ``opinions`` float32 ``(n, classes)`` of the teachers about just these pixels."""

    faces: Tensor
    opinions: Tensor


class Views:
    """``count`` views of the training faces, in files that are memory-mapped, never all in memory.

    Each is made when it is first asked for and stands from then on in ``parent/views-…``, a folder
    that another run with the same faces and teachers finds again, whatever its ``count``. A run
    that is interrupted loses no more than the view under way.
    """

    def __init__(
        self, parent: Path, crops: NDArray[np.uint8], teachers: Teachers, count: int
    ) -> None:
        key = hashlib.sha256(teachers.digest.encode() + np.ascontiguousarray(crops).data)
        self.folder = parent / f"views-{key.hexdigest()[:8]}"
        self.count, self._crops, self._teachers = count, crops, teachers

    def cost(self) -> str:
        """What the missing views will take, for a person: gigabytes and minutes.

        Raises UsageError where the disk has no room for them.
        """
        missing = sum(not self._path(number).exists() for number in range(self.count))
        faces, side = self._crops.shape[:2]
        size = missing * faces * (side * side + 4 * len(self._teachers.classes))
        free = shutil.disk_usage(self.folder.parent).free
        if size > free:
            raise UsageError(
                f"--views {self.count}: {self.folder} needs {size / 1e9:.1f} GB more, "
                f"{free / 1e9:.1f} GB are free"
            )
        started = time.perf_counter()
        self._look(self._crops[:TRIED])
        seconds = (time.perf_counter() - started) / min(TRIED, faces) * faces * missing
        return (
            f"{self.folder}: {missing} of {self.count} views of {faces:,} faces are to be made, "
            f"{size / 1e9:.1f} GB and about {seconds / 60:.0f} minutes in all"
        )

    def load(self, number: int, advance: Callable[[int, int], None]) -> View:
        """The view of this number, modulo ``count``, on the teachers' device; made if it is not
        there. ``advance`` is told the faces done and the faces in all while it is made."""
        path = self._path(number % self.count)
        if not path.exists():
            self._make(number % self.count, path, advance)
        rows = np.load(path, mmap_mode="r")
        device = self._teachers.device
        faces, opinions = (np.array(rows[key]) for key in ("faces", "opinions"))
        return View(torch.from_numpy(faces).to(device), torch.from_numpy(opinions).to(device))

    def _make(self, number: int, path: Path, advance: Callable[[int, int], None]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        total, side = self._crops.shape[:2]
        kind = [("faces", "u1", (side, side)), ("opinions", "f4", len(self._teachers.classes))]
        partial = path.with_suffix(f".{os.getpid()}.partial")
        rows = np.lib.format.open_memmap(partial, "w+", np.dtype(kind), (total,))
        torch.manual_seed(number)
        for start in range(0, total, BATCH):
            batch = slice(start, start + BATCH)
            rows["faces"][batch], rows["opinions"][batch] = self._look(self._crops[batch])
            advance(min(start + BATCH, total), total)
        rows.flush()
        partial.replace(path)

    def _look(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        faces = torch.from_numpy(crops).to(self._teachers.device).unsqueeze(1).float()
        varied = augment(faces).round()  # the opinion is of just the pixels that are stored
        opinions = self._teachers.opinion(varied).cpu().numpy()
        return varied.squeeze(1).byte().cpu().numpy(), opinions

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:03}.npy"
