"""The image and video files that a person names, alone or in folders."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from worker.errors import ImageLost, UsageError
from worker.files import IMAGE_SUFFIXES, is_clutter

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".f4v"),
    *(".ts", ".mts", ".m2ts", ".vob", ".3gp", ".3g2", ".ogv", ".asf"),
)


@dataclass(frozen=True)
class Source:
    """An image or video file, and its place in the folder that was named."""

    path: Path
    name: Path


@dataclass(frozen=True)
class Found:
    """The files to take, and how many others lie in the same folders."""

    sources: tuple[Source, ...]
    passed_over: int


def find_files(paths: Iterable[Path], *, videos: bool = False) -> Found:
    """The files named, and the images in the folders named and below, each folder in order;
    with ``videos`` those, too.

    Raises UsageError for a path that is not there, or a folder without any.
    """
    suffixes = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES) if videos else IMAGE_SUFFIXES
    sources: list[Source] = []
    passed_over = 0
    for path in paths:
        if path.is_dir():
            files = (file for file in sorted(path.rglob("*")) if file.is_file())
            inside = [file for file in files if not is_clutter(file.relative_to(path))]
            chosen = [file for file in inside if file.suffix.lower() in suffixes]
            if not chosen:
                wanted = "image or video" if videos else "image"
                raise UsageError(f"{path}: no {wanted} in this folder ({', '.join(suffixes)})")
            sources += [Source(file, file.relative_to(path)) for file in chosen]
            passed_over += len(inside) - len(chosen)
        elif path.is_file():
            sources.append(Source(path, Path(path.name)))
        else:
            raise UsageError(f"{path}: there is no such file or folder")
    return Found(tuple(sources), passed_over)


def is_video(path: Path) -> bool:
    """Whether the file's name says that it is a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def read_image(path: Path, limit: int) -> bytes:
    """An image file's bytes. Raises ImageLost when it cannot be read or has over ``limit``."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ImageLost("unreadable", f"cannot read it: {error.strerror}") from error
    if len(content) > limit:
        raise ImageLost("too_large", f"it has more than [server] max_image_bytes = {limit}")
    return content
