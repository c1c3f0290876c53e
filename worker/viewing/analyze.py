"""`analyze`: images, videos and folders of them without a server; finds faces, and draws them."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from worker.analysis.decoding import decode
from worker.analysis.pipeline import Pipeline
from worker.analysis.sources import Source, is_video, read_image
from worker.config import Config, ServerConfig
from worker.errors import ImageLost, UsageError
from worker.files import replace_file
from worker.record import Analysis, Record, build_record
from worker.viewing.drawing import draw, encode
from worker.viewing.video import Video, VideoFile, to_gray

# Of copies of images; what cannot be written in its own form gets the first one.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".webp", ".bmp", ".dib", ".tif", ".tiff")
LONGEST_NAME = 240  # bytes; the usual file systems take 255, and a file being written has a longer


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
    drawn in. Raises UsageError or Stop when that cannot be written or the weights cannot be used.
    """
    copies = place_copies(sources, annotated) if annotated else [None] * len(sources)
    pipeline = Pipeline(config)
    analyzer = _Analyzer(config.server, pipeline, threshold, every)
    record = partial(
        build_record,
        threshold=threshold,
        task_id=None,
        worker=config.worker.id,
        network=pipeline.classifier.facts.network,
    )
    for source, copy in zip(sources, copies, strict=True):
        analyze = analyzer.video if is_video(source.path) else analyzer.image
        try:
            for place, found in analyze(source.path, copy):
                yield record(file_name=f"{source.path}{place}", outcome=found)
        except ImageLost as lost:
            yield record(file_name=str(source.path), outcome=lost)


def place_copies(sources: Sequence[Source], folder: Path) -> list[Path]:
    """Where the annotated copy of each source goes in ``folder``: no two to the same place, also
    if upper and lower case are one; with a suffix that can be written, and no name too long.

    Raises UsageError if a copy would replace one of the sources.
    """
    originals = {source.path.resolve() for source in sources}
    copies: dict[str, Path] = {}
    for source in sources:
        for number in count(1):
            copy = folder / source.name.with_name(_copy_name(source.path, number))
            if str(copy).casefold() not in copies:
                break
        if copy.resolve() in originals:
            raise UsageError(f"--annotated: {copy} is the original; name another folder")
        copies[str(copy).casefold()] = copy
    return [*copies.values()]


def _copy_name(path: Path, number: int) -> str:
    written = (".mp4",) if is_video(path) else IMAGE_SUFFIXES
    stem, suffix = path.stem, path.suffix
    if suffix.lower() not in written:
        stem, suffix = path.name, written[0]
    end = f"-{number}{suffix}" if number > 1 else suffix
    kept = os.fsencode(stem)[: LONGEST_NAME - len(os.fsencode(end))]
    return kept.decode(errors="ignore") + end


@dataclass(frozen=True)
class _Analyzer:
    """Gives place and outcome of an image (place: none) or of the sampled frames of a video;
    ``copy``: where to write it with its faces drawn in. Raises ImageLost."""

    limits: ServerConfig
    pipeline: Pipeline
    threshold: float
    every: float

    def image(self, path: Path, copy: Path | None) -> Iterator[tuple[str, Analysis]]:
        content = read_image(path, self.limits.max_image_bytes)
        analysis = self.pipeline.analyze(content)
        if copy:
            picture = decode(content, color=True, max_pixels=self.limits.max_image_pixels)
            drawn = draw(picture, analysis.faces, self.threshold)
            replace_file(copy, encode(drawn, copy.suffix.lower()))
        yield "", analysis

    def video(self, path: Path, copy: Path | None) -> Iterator[tuple[str, Analysis]]:
        """The annotated video has just the sampled frames, each for as long as it stands for, so
        that every box is one that was found."""
        with Video(path, self.limits.max_image_pixels) as video:
            rate = min(video.rate, 1 / self.every)
            with VideoFile(copy, rate) if copy else nullcontext() as output:
                for seconds, picture in video.frames(self.every):
                    started = time.perf_counter()
                    gray = to_gray(picture)
                    faces = self.pipeline.find_faces(gray)
                    elapsed = (time.perf_counter() - started) * 1000
                    if output:
                        output.write(draw(picture, faces, self.threshold))
                    height, width = gray.shape
                    expected = self.pipeline.classifier.expected
                    yield f"#{seconds:.3f}s", Analysis(width, height, faces, elapsed, expected)
