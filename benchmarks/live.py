"""How fast `live` is, and whether its boxes stay right while most frames are not searched.

Makes a video of 640x480 pixels in which two photographs (of scikit-image and matplotlib) move about
and change their size, plays it as `live --output` does, and then searches each frame in full. Every
box of the full search is compared with the best one that `live` had for that frame.

    python benchmarks/live.py --json live.json
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from worker.analysis.decoding import decode
from worker.analysis.grouping import overlaps
from worker.analysis.pipeline import Pipeline
from worker.config import Config
from worker.demo_server.sample_images import sample_images
from worker.record import Box
from worker.viewing.live import play
from worker.viewing.video import Video, VideoFile, to_gray

WIDTH, HEIGHT, RATE = 640, 480, 30
LIMIT = Config().server.max_image_pixels


def make_video(path: Path, frames: int) -> None:
    """Two people, each moving on a circle of its own and coming nearer and going away again."""
    samples = {sample.name: sample.content for sample in sample_images()}
    people = [decode(samples[name], color=True) for name in ("astronaut.jpg", "grace_hopper.jpg")]
    people[1] = people[1][:512]
    half = np.array([WIDTH / 2, HEIGHT])
    with VideoFile(path, RATE) as video:
        for number in range(frames):
            now, halves = number / RATE, []
            for which, person in enumerate(people):
                turn = 2 * np.pi * now / (4 + which)  # seconds for one round
                scale = 0.9 + 0.15 * np.sin(turn / 2)
                middle = half / 2 + (30 * np.cos(turn), 25 * np.sin(turn) + 40)
                move = np.array([[scale, 0, 0], [0, scale, 0]])
                move[:, 2] = middle - scale * np.array([256, 200 if which else 160])
                halves.append(cv2.warpAffine(person, move, (WIDTH // 2, HEIGHT)))
            video.write(np.hstack(halves).astype(np.uint8))


def corners(box: Box) -> tuple[int, int, int, int]:
    return box.x1, box.y1, box.x2, box.y2


def measure(frames: int, keep: Path | None) -> dict[str, float]:
    """Frames a second of the whole command, and how well its boxes agree with full searches."""
    pipeline, boxes = Pipeline(Config()), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "test.mp4")
        make_video(path, frames)
        drawn, began = keep or Path(folder, "out.mp4"), time.perf_counter()
        with Video(path, LIMIT) as video, VideoFile(drawn, video.rate) as output:
            for picture, faces in play(video, pipeline.find_faces, 0.5, hurry=True):
                boxes.append([face.box for face in faces])
                output.write(picture)
        rate = len(boxes) / (time.perf_counter() - began)
        best, found = [], 0
        with Video(path, LIMIT) as video:
            for (_, picture), had in zip(video.frames(), boxes, strict=True):
                full = [corners(face.box) for face in pipeline.find_faces(to_gray(picture))]
                own = np.array([corners(box) for box in had], float).reshape(-1, 4)
                best += [overlaps(np.array(box, float), own).max(initial=0) for box in full]
                found += len(full)
    return {
        "frames": frames,
        "frames_per_second": round(rate, 1),
        "boxes_full_search": found,
        "boxes_live": sum(map(len, boxes)),
        "iou_mean": round(float(np.mean(best)), 3),
        "iou_at_least_half": round(float(np.mean(np.array(best) >= 0.5)), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="speed of `live`, and whether its boxes are right")
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--output", type=Path, metavar="FILE.mp4", help="keep what it drew")
    parser.add_argument("--json", type=Path, metavar="OUT")
    options = parser.parse_args()
    figures = measure(options.frames, options.output)
    for name, value in figures.items():
        print(f"{name:20} {value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
