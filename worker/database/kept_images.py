"""`[database] keep_images`: the images that the daemon analysed, in a folder of limited size.

A file is named after its task's hash and its own first bytes: nothing that a server says becomes
part of a path. Files of other names in the folder are never touched.
"""

import logging
import re
from collections import OrderedDict
from hashlib import sha256
from pathlib import Path

from worker.errors import Stop
from worker.files import replace_file

logger = logging.getLogger(__name__)

MAGIC = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG", "png"),
    (b"RIFF", "webp"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
)
NAME = re.compile(r"[0-9a-f]{40}\.(jpg|png|webp|bmp|tiff|image)(\.partial)?")


def stem(task_id: str) -> str:
    """A task's file name, without its suffix."""
    return sha256(task_id.encode(errors="replace")).hexdigest()[:40]


class KeptImages:
    """The images in ``folder``, ``most`` bytes at most: the oldest go first. For one thread."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most, self._failed = folder, most, False
        files = [f for f in folder.glob("*") if NAME.fullmatch(f.name) and f.is_file()]
        known = sorted((path.stat().st_mtime, path.name, path.stat().st_size) for path in files)
        self._files = OrderedDict((name, size) for _, name, size in known)
        self._bytes = sum(self._files.values())

    def keep(self, task_id: str, content: bytes) -> None:
        """Write an image, remove the oldest ones. What goes wrong is said in the log, once until it
        goes well again, and stops nothing."""
        suffix = next((name for magic, name in MAGIC if content.startswith(magic)), "image")
        name = f"{stem(task_id)}.{suffix}"
        try:
            if len(content) > self._most:
                raise Stop("it is larger than keep_images_size")
            while self._files and self._bytes + len(content) > self._most:
                oldest, size = self._files.popitem(last=False)
                self._bytes -= size
                (self._folder / oldest).unlink(missing_ok=True)
            # Faces are nobody else's business on this machine.
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._folder / name, content)
            self._bytes += len(content) - self._files.pop(name, 0)
            self._files[name] = len(content)
        except (OSError, Stop) as error:
            if not self._failed:
                logger.warning("[database] keep_images: an image is not kept: %s", error)
            self._failed = True
        else:
            self._failed = False
