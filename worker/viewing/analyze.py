"""`analyze`: images, videos and folders of them without a server; prints what is found, draws and
stores it."""

import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from worker.analysis import sources
from worker.analysis.cropping import Picture, decode
from worker.analysis.pipeline import Pipeline
from worker.analysis.sources import Source, is_video, read_image
from worker.config import Config
from worker.errors import ImageLost, UsageError
from worker.record import Analysis, Record, build_record
from worker.viewing.drawing import draw
from worker.viewing.video import Video, VideoFile

WRITTEN_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def find_files(paths: Iterable[Path], *, videos: bool = False) -> list[Source]:
    """The sources that `worker.analysis.sources` finds."""
    return list(sources.find_files(paths, videos=videos).sources)


def expected_records(source: Source, config: Config, every: float) -> int:
    """About how many records `analyze_files` will give for a file, for a progress bar."""
    if not is_video(source.path):
        return 1
    try:
        with Video(source.path, config.server.max_image_pixels) as video:
            return video.expected(every)
    except ImageLost:
        return 1


def analyze_files(
    files: Iterable[Source],
    config: Config,
    threshold: float,
    annotated: Path | None,
    every: float = 0.5,
) -> Iterator[Record]:
    """Analyse one file after the other; a file that is neither image nor video gives an error
    record. A video gives a record for the first frame in each ``every`` seconds, called
    ``clip.mp4#12.500s``.

    ``threshold``: 0..1. ``annotated``: folder for copies with boxes, emotions and probabilities
    drawn in. Raises UsageError where that cannot be written or the weights cannot be used.
    """
    analyzer = _Analyzer(config, Pipeline(config), threshold, every)
    for source in files:
        target = annotated / source.name if annotated else None
        if target and target.resolve() == source.path.resolve():
            raise UsageError(f"--annotated: {target} is the original; name another folder")
        analyze = analyzer.video if is_video(source.path) else analyzer.image
        for place, outcome in analyze(source.path, target):
            yield build_record(
                file_name=f"{source.path}{place}",
                threshold=threshold,
                outcome=outcome,
                task_id=None,
                worker=config.worker.id,
                network=analyzer.pipeline.classifier.facts.network,
            )


@dataclass(frozen=True)
class _Analyzer:
    """Gives place and outcome of an image (place: none) or of the sampled frames of a video;
    ``target``: where to write it with its faces drawn in."""

    config: Config
    pipeline: Pipeline
    threshold: float
    every: float

    def image(self, path: Path, target: Path | None) -> Iterator[tuple[str, Analysis | ImageLost]]:
        try:
            content = read_image(path, self.config.server.max_image_bytes)
            analysis = self.pipeline.analyze(content)
            if target:
                _write(target, draw(decode(content, color=True), analysis.faces, self.threshold))
            yield "", analysis
        except ImageLost as lost:
            yield "", lost

    def video(self, path: Path, target: Path | None) -> Iterator[tuple[str, Analysis | ImageLost]]:
        """Also what is wrong with the file, at its end.

        The annotated video has just the sampled frames, each for as long as it stands for, so that
        every box is one that was found.
        """
        if target and target.suffix.lower() != ".mp4":
            target = target.with_name(f"{target.name}.mp4")
        try:
            with Video(path, self.config.server.max_image_pixels) as video:
                rate = min(video.rate, 1 / self.every)
                with VideoFile(target, rate) if target else nullcontext() as output:
                    for seconds, picture in video.frames(self.every):
                        started = time.perf_counter()
                        gray = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
                        faces = self.pipeline.find_faces(gray)
                        elapsed = (time.perf_counter() - started) * 1000
                        if output:
                            output.write(draw(picture, faces, self.threshold))
                        height, width = gray.shape
                        yield f"#{seconds:.3f}s", Analysis(width, height, faces, elapsed)
        except ImageLost as lost:
            yield "", lost


def _write(path: Path, picture: Picture) -> None:
    if path.suffix.lower() not in WRITTEN_SUFFIXES:
        path = path.with_name(path.name + ".png")
    encoded, content = cv2.imencode(path.suffix.lower(), picture)
    assert encoded
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.tobytes())
    except OSError as error:
        raise UsageError(f"--annotated: cannot write {path}: {error.strerror}") from error
