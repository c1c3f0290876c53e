"""How much larger or smaller than the cascade's box a crop must be, so that a network sees what it
was trained on.

FER+ faces are already cropped. Each is put into the middle of a larger picture, the worker's own
detector searches it, and the box found is compared with the crop: the median of its side, as a
fraction of the crop's, and of the way between the two centres.

    python benchmarks/box_scale.py --data ferplus/ --split FER2013Valid
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from worker.analysis.detection import PROFILES, FaceDetector
from worker.analysis.face_net import FACE_WEIGHTS, FaceNet
from worker.training.dataset import load_split, majority_labels

SIDE, MARGIN = 120, 60  # pixels: of the enlarged crop, and of what is put around it


def measure(data: Path, split: str, most: int, profile: str) -> dict[str, str | float]:
    """Medians over the faces in which just one box is found near the middle."""
    faces = load_split(data, split)
    crops = faces.crops[majority_labels(faces.votes) >= 0][:most]
    detector = FaceDetector(PROFILES[profile], FaceNet(FACE_WEIGHTS))
    found = []
    for crop in crops:
        enlarged = cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        surrounded = np.pad(enlarged, MARGIN, mode="reflect").astype(np.uint8)
        middle = MARGIN + SIDE / 2
        near = []
        for detection in detector.detect(surrounded):
            box = detection.box
            away_x, away_y = (box.x1 + box.x2) / 2 - middle, (box.y1 + box.y2) / 2 - middle
            if max(abs(away_x), abs(away_y)) < SIDE / 4:
                near.append(((box.x2 - box.x1) / SIDE, away_x / SIDE, away_y / SIDE))
        if len(near) == 1:
            found.append(near[0])
    side, away_x, away_y = np.median(found, axis=0)
    return {
        "profile": profile,
        "faces": len(crops),
        "found": len(found),
        "side": round(float(side), 3),
        "right": round(float(away_x), 3),
        "down": round(float(away_y), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="compare the detector's boxes with FER+ crops")
    parser.add_argument("--data", type=Path, required=True, help="FER+ layout")
    parser.add_argument("--split", default="FER2013Valid")
    parser.add_argument("--most", type=int, default=1000, help="faces to use")
    options = parser.parse_args()
    for profile in PROFILES:
        print(json.dumps(measure(options.data, options.split, options.most, profile)))


if __name__ == "__main__":
    main()
