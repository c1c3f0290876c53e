"""`analyze`: images, videos and folders of them without a server; finds faces, and draws them."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from worker.analysis.cropping import Picture
from worker.analysis.decoding import decode
from worker.analysis.pipeline import Pipeline
from worker.analysis.sources import Source, is_video, read_image
from worker.config import Config
from worker.errors import ImageLost, UsageError
from worker.record import Analysis, Record, build_record
from worker.viewing.drawing import draw
from worker.viewing.video import Video, VideoFile

# Of copies; what cannot be written in its own form gets the first one.
VIDEO_SUFFIXES = (".mp4",)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".webp", ".bmp", ".dib", ".tif", ".tiff")
LONGEST_NAME = 255  # bytes, on the usual file systems


def analyze_files(
    sources: Sequence[Source],
    config: Config,
    threshold: float,
    annotated: Path | None,
    every: float = 0.5,
) -> Iterator[Record]:
    """Analyse one file after the other; a file that is neither image nor video gives an error
    record. A video gives a record for the first frame in each ``every`` seconds, called
    ``clip.mp4#12.500s``.

    ``threshold``: 0..1. ``annotated``: folder for copies with boxes, emotions and probabilities
    drawn in. Raises UsageError when that cannot be written or the weights cannot be used.
    """
    copies = place_copies(sources, annotated) if annotated else [None] * len(sources)
    analyzer = _Analyzer(config, Pipeline(config), threshold, every)
    for source, copy in zip(sources, copies, strict=True):
        analyze = analyzer.video if is_video(source.path) else analyzer.image
        for place, outcome in analyze(source.path, copy):
            yield build_record(
                file_name=f"{source.path}{place}",
                threshold=threshold,
                outcome=outcome,
                task_id=None,
                worker=config.worker.id,
                network=analyzer.pipeline.classifier.facts.network,
            )


def place_copies(sources: Sequence[Source], folder: Path) -> list[Path]:
    """Where the annotated copy of each source goes in ``folder``: no two to the same place, also
    if upper and lower case are one; with a suffix that can be written, and no name too long.

    Raises UsageError if a copy would replace one of the sources.
    """
    originals = {source.path.resolve() for source in sources}
    taken: set[str] = set()
    copies = []
    for source in sources:
        for number in count(1):
            copy = folder / source.name.with_name(_copy_name(source.path, number))
            if str(copy).casefold() not in taken:
                break
        if copy.resolve() in originals:
            raise UsageError(f"--annotated: {copy} is the original; name another folder")
        taken.add(str(copy).casefold())
        copies.append(copy)
    return copies


def _copy_name(path: Path, number: int) -> str:
    written = VIDEO_SUFFIXES if is_video(path) else IMAGE_SUFFIXES
    stem, suffix = path.stem, path.suffix
    if suffix.lower() not in written:
        stem, suffix = path.name, written[0]
    end = f"-{number}{suffix}" if number > 1 else suffix
    room = LONGEST_NAME - len(os.fsencode(end))
    if len(os.fsencode(stem)) > room:
        stem = os.fsencode(stem)[:room].decode(errors="ignore")
    return stem + end


@dataclass(frozen=True)
class _Analyzer:
    """Gives place and outcome of an image (place: none) or of the sampled frames of a video;
    ``copy``: where to write it with its faces drawn in."""

    config: Config
    pipeline: Pipeline
    threshold: float
    every: float

    def image(self, path: Path, copy: Path | None) -> Iterator[tuple[str, Analysis | ImageLost]]:
        try:
            content = read_image(path, self.config.server.max_image_bytes)
            analysis = self.pipeline.analyze(content)
            if copy:
                limit = self.config.server.max_image_pixels
                picture = decode(content, color=True, max_pixels=limit)
                _write(copy, draw(picture, analysis.faces, self.threshold))
            yield "", analysis
        except ImageLost as lost:
            yield "", lost

    def video(self, path: Path, copy: Path | None) -> Iterator[tuple[str, Analysis | ImageLost]]:
        """Also what is wrong with the file, at its end.

        The annotated video has just the sampled frames, each for as long as it stands for, so that
        every box is one that was found.
        """
        try:
            with Video(path, self.config.server.max_image_pixels) as video:
                rate = min(video.rate, 1 / self.every)
                with VideoFile(copy, rate) if copy else nullcontext() as output:
                    for seconds, picture in video.frames(self.every):
                        started = time.perf_counter()
                        gray = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
                        faces = self.pipeline.find_faces(gray)
                        elapsed = (time.perf_counter() - started) * 1000
                        if output:
                            output.write(draw(picture, faces, self.threshold))
                        height, width = gray.shape
                        expected = self.pipeline.classifier.expected
                        found = Analysis(width, height, faces, elapsed, expected)
                        yield f"#{seconds:.3f}s", found
        except ImageLost as lost:
            yield "", lost


def _write(path: Path, picture: Picture) -> None:
    encoded, content = cv2.imencode(path.suffix.lower(), picture)
    assert encoded
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.tobytes())
    except OSError as error:
        raise UsageError(f"--annotated: cannot write {path}: {error.strerror}") from error
