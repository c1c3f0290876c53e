"""This worker beside the way it was done before: one image from JPEG bytes to its record.

The old way, written out plainly in `old_way`: load the network for every image, decode all pixels
in colour, search the whole image with OpenCV's default cascade, then one face at a time through
Custom_net. Both take turns on the same images: six faces in 300, 1920 and 4000 pixels of width,
made from photographs that come inside packages. The second table is detection alone, on decoded
pictures 450 pixels wide: with --data those of a folder for `evaluate faces`, as they are.

    python benchmarks/old_way.py [--data DIR] [--rounds 15] [--json OUT]
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from worker.analysis.cropping import Picture
from worker.analysis.decoding import decode
from worker.analysis.detection import CASCADES, PROFILES, FaceDetector
from worker.analysis.face_net import FACE_WEIGHTS, FaceNet
from worker.analysis.pipeline import Pipeline
from worker.config import PROJECT, Config
from worker.demo_server.sample_images import sample_images
from worker.record import EMOTIONS, build_record
from worker.terminal import show_table
from worker.training.export import load_network

WIDTHS = (300, 1920, 4000)  # pixels
CELL = (100, 130)  # pixels of width and height for each head, in the smallest picture
HEADS = {"astronaut.jpg": (128, 20, 190), "grace_hopper.jpg": (80, 30, 340)}  # left, top, width
CUSTOM_NET = PROJECT / "weights" / "custom_net.onnx"


def old_way(content: bytes) -> list[dict[str, Any]]:
    """Faces of a JPEG as a record listed them, at a threshold of 0.5."""
    network, _ = load_network(CUSTOM_NET)
    cascade = cv2.CascadeClassifier(str(CASCADES / "haarcascade_frontalface_default.xml"))
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    gray = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    faces = []
    for number, (x, y, w, h) in enumerate(cascade.detectMultiScale(gray), 1):
        crop = cv2.resize(gray[y : y + h, x : x + w], (48, 48))
        with torch.no_grad():
            logits = network(torch.from_numpy(crop / 255).float()[None, None])
        row = torch.softmax(logits, dim=1)[0].tolist()
        named = {name: value for name, value in zip(EMOTIONS, row, strict=True) if value >= 0.5}
        faces.append({"face_id": number, **named, "bbox": [x, y, x + w, y + h]})
    return faces


def new_way(pipeline: Pipeline, content: bytes) -> list[dict[str, Any]]:
    """The same by the worker's own call."""
    record = build_record(
        file_name="six.jpg",
        threshold=0.5,
        outcome=pipeline.analyze(content),
        task_id=None,
        worker="benchmark",
        network=pipeline.classifier.facts.network,
    )
    faces: list[dict[str, Any]] = record["faces"]
    return faces


def six_faces(width: int) -> bytes:
    """A JPEG of that width with six heads side by side, three in a row."""
    pictures = {sample.name: decode(sample.content, color=True) for sample in sample_images()}
    across, down = (round(side * width / WIDTHS[0]) for side in CELL)
    cells = []
    for name, (left, top, side) in HEADS.items():
        head = pictures[name][top : top + round(side * CELL[1] / CELL[0]), left : left + side]
        cells.append(cv2.resize(head, (across, down), interpolation=cv2.INTER_AREA))
    first, second = cells
    rows = [np.hstack([first, second, first]), np.hstack([second, first, second])]
    _, content = cv2.imencode(".jpg", np.vstack(rows))
    return content.tobytes()


def milliseconds(ways: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Median time of each way; they take turns, so that a busy moment hits all alike."""
    times: list[list[float]] = [[] for _ in ways]
    for number in range(rounds + 1):
        for way, own in zip(ways, times, strict=True):
            started = time.perf_counter()
            way()
            if number:  # the first call still chooses its kernels
                own.append((time.perf_counter() - started) * 1000)
    return [statistics.median(own) for own in times]


def compare_whole(rounds: int) -> list[dict[str, Any]]:
    """From bytes to record, for each width."""
    pipeline = Pipeline(Config())
    rows = []
    for width in WIDTHS:
        content = six_faces(width)
        old, new = milliseconds(
            [lambda: old_way(content), lambda: new_way(pipeline, content)],  # noqa: B023
            rounds,
        )
        rows.append(
            {
                "width": width,
                "old_ms": old,
                "new_ms": new,
                "ratio": old / new,
                "old_faces": len(old_way(content)),
                "new_faces": len(new_way(pipeline, content)),
            }
        )
    return rows


def compare_detection(pictures: Sequence[Picture], rounds: int) -> list[dict[str, Any]]:
    """Detection alone, all pictures together: each profile against the plain default cascade."""
    cascade = cv2.CascadeClassifier(str(CASCADES / "haarcascade_frontalface_default.xml"))
    face_net = FaceNet(FACE_WEIGHTS)
    detectors = [FaceDetector(settings, face_net) for settings in PROFILES.values()]
    ways: list[Callable[[], object]] = [lambda: [cascade.detectMultiScale(p) for p in pictures]]
    ways += [
        (lambda detector=detector: [detector.detect(p) for p in pictures])  # type: ignore[misc]
        for detector in detectors
    ]
    plain, *own = (total / len(pictures) for total in milliseconds(ways, rounds))
    return [
        {"profile": name, "plain_ms": plain, "ms": value, "share": value / plain}
        for name, value in zip(PROFILES, own, strict=True)
    ]


def load_450(data: Path | None) -> list[Picture]:
    """The pictures of ``data/images`` as they are, or the packaged ones made 450 pixels wide."""
    if data:
        return [decode(path.read_bytes()) for path in sorted((data / "images").iterdir())]
    grays = [decode(sample.content) for sample in sample_images()]
    sizes = [(450, round(gray.shape[0] * 450 / gray.shape[1])) for gray in grays]
    return [
        np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8)
        for gray, size in zip(grays, sizes, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="this worker beside the old way")
    parser.add_argument("--data", type=Path, help="pictures for detection: a folder with images/")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, metavar="OUT")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    whole = compare_whole(options.rounds)
    detection = compare_detection(load_450(options.data), max(1, options.rounds // 5))
    for title, rows in (("bytes to record", whole), ("detection alone", detection)):
        cells = [[f"{v:.3g}" if isinstance(v, float) else v for v in row.values()] for row in rows]
        print(title)
        show_table(list(rows[0]), cells, heading=True)
    if options.json:
        options.json.write_text(json.dumps({"whole": whole, "detection": detection}, indent=2))


if __name__ == "__main__":
    main()
