"""Which files are images; files that are there as a whole or not at all, or for nobody else."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from worker.errors import Stop, UsageError

PROJECT = Path(__file__).resolve().parent.parent  # run_worker.py, weights/ and worker/ lie there
WEIGHTS = PROJECT / "weights"  # of a checkout
if not WEIGHTS.is_dir():
    WEIGHTS = PROJECT / "worker" / "weights"  # of an installed package
IMAGE_SUFFIXES = (  # of what decodes
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".png", ".apng", ".webp", ".gif"),
    *(".avif", ".bmp", ".dib", ".tif", ".tiff"),
)


def weights_path(name: str | Path) -> Path:
    """The weights file that a bare name such as ``emotion_net`` stands for; a path stays as it is.

    A bare name has neither a folder nor an ending. Whether there is such a file is not looked at.
    """
    bare = Path(name).name == str(name) and not Path(name).suffix
    return WEIGHTS / f"{name}.onnx" if bare else Path(name)


def is_clutter(path: Path) -> bool:
    """Whether a path below a folder that was named is what tools leave there: ``._a.jpg``,
    ``__MACOSX/``, ``.ipynb_checkpoints/``, anything hidden."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def expect_private(status: os.stat_result, source: str, path: Path) -> None:
    """Raise UsageError if others than its owner may read or change a file of secrets.

    ``source``: the key that names it. Windows has no such modes: nothing is looked at there.
    """
    if os.name == "posix" and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"{source}: others may read it; run: chmod 600 {path}")


def replace_file(path: Path, content: bytes) -> None:
    """Write ``content`` beside ``path`` and move it there, so that no reader finds half of it.

    Makes the folder if there is none. Raises Stop if the disk is full or takes no file there;
    what stood at ``path`` before is then still there.
    """
    if path.exists() and not path.is_file():
        raise Stop(f"cannot write {path}: it is no ordinary file")  # the move would replace it
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise Stop(f"cannot write {path}: {error.strerror}") from error
