"""`evaluate faces`: pairs as DESIGN says, figures by hand, what is mined can be trained on."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.progress import Progress

from tests.photographs import ASTRONAUT_FACE, HOPPER_FACE, SAMPLES, encode, picture
from worker.analysis.detection import PROFILES
from worker.analysis.face_net import FACE_WEIGHTS, FaceNet
from worker.analysis.grouping import overlaps
from worker.cli import main
from worker.errors import UsageError
from worker.record import FACE_CLASSES, Box
from worker.terminal import progress_bar
from worker.training.dataset import face_labels, load_split
from worker.training.face_evaluation import evaluate_faces, load_pictures, match
from worker.training.options import TrainOptions
from worker.training.train import train

HEADING = "file_name,x1,y1,x2,y2"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two photographs with their faces and one without, and a face that is not there."""
    folder = tmp_path / "faces"
    (folder / "images").mkdir(parents=True)
    lines = [HEADING]
    for name, box in (("astronaut.jpg", ASTRONAUT_FACE), ("grace_hopper.jpg", HOPPER_FACE)):
        lines.append(f"{name},{box.x1},{box.y1},{box.x2},{box.y2}")
    lines.append("astronaut.jpg,0,400,60,460")
    for name in ("astronaut.jpg", "grace_hopper.jpg", "coffee.jpg"):
        (folder / "images" / name).write_bytes(SAMPLES[name])
    (folder / "boxes.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_boxes_are_paired_greedily_after_both_are_made_squares() -> None:
    true = np.array([[0, 0, 100, 100], [200, 0, 300, 100]], float)
    # A tall box of the same area and centre counts as the square; each true box is given once.
    found = [Box(25, -50, 75, 150), Box(0, 10, 100, 110), Box(500, 0, 600, 100)]
    assert match(found, true).tolist() == [0, -1, -1]
    assert match([Box(0, 42, 100, 142)], true).tolist() == [0]  # 58 / 142 of the union
    assert match([Box(0, 44, 100, 144)], true).tolist() == [-1]  # 56 / 144
    assert match([], true).tolist() == []
    assert match(found, np.empty((0, 4))).tolist() == [-1, -1, -1]


def test_the_figures_are_those_of_the_pictures(data: Path, tmp_path: Path) -> None:
    out, drawn = tmp_path / "figures.json", tmp_path / "drawn"
    flags = ["--json", str(out), "--failures", str(drawn), "--plots", str(tmp_path)]
    assert main(["evaluate", "faces", "--data", str(data), *flags]) == 0
    figures = json.loads(out.read_text())
    assert figures.pop("ms_per_image") > 0
    assert figures.pop("image_pixels") == pytest.approx((512 * 512 + 512 * 600 + 600 * 400) / 3)
    assert figures == {
        "images": 3,
        "faces": 3,
        "found": 2,
        "correct": 2,
        "false_positives": 0,
        "recall": pytest.approx(2 / 3),
        "recall_interval": pytest.approx([0.2077, 0.9385], abs=1e-4),
        "precision": 1.0,
    }
    assert [path.name for path in drawn.iterdir()] == ["astronaut.jpg.png"]
    for name in ("detection.png", "reliability.png"):
        assert cv2.imread(str(tmp_path / name)) is not None


def test_a_curve_goes_from_all_that_was_found_to_nothing(data: Path) -> None:
    settings, face_net = PROFILES["default"], FaceNet(FACE_WEIGHTS)
    with progress_bar() as progress:
        measured = evaluate_faces(data, settings, face_net, progress)
    assert list(measured.curve) == sorted(measured.curve)
    recalls = [recall for _, _, recall in measured.curve]
    assert recalls == sorted(recalls, reverse=True)
    assert recalls[0] == pytest.approx(2 / 3)
    unsure = ~measured.correct & (measured.confidence >= measured.curve[0][0])
    assert measured.curve[0][1] == pytest.approx(unsure.sum() / 3)
    assert measured.correct[measured.confidence > 0.9].sum() == 2


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("a,b", "line 1: expected the columns file_name,x1,y1,x2,y2"),
        ("astronaut.jpg,1,2,3,4", "line 1: expected the columns file_name,x1,y1,x2,y2"),
        (f"{HEADING}\nastronaut.jpg,1,2,3", "line 2: a corner must be a number"),
        (f"{HEADING}\nastronaut.jpg,1,2,3,nan", "line 2: a corner must be a number"),
        (f"{HEADING}\nastronaut.jpg,1,2,3,inf", "line 2: a corner must be a number from -1000000"),
        (f"{HEADING}\nastronaut.jpg,-1e300,2,1e300,4", "line 2: a corner must be a number from"),
        (f"{HEADING}\nastronaut.jpg,9,2,3,4", "line 2: x1 must be below x2"),
        (f"{HEADING}\nnobody.jpg,1,2,3,4", "line 2: there is no images/nobody.jpg"),
    ],
)
def test_unusable_boxes_are_refused(data: Path, table: str, says: str) -> None:
    (data / "boxes.csv").write_text(table + "\n")
    with pytest.raises(UsageError, match=says):
        load_pictures(data)
    (data / "boxes.csv").unlink()
    with pytest.raises(UsageError, match=r"needs a folder images/ and a file boxes\.csv"):
        load_pictures(data)


def test_boxes_may_come_from_a_spreadsheet(data: Path) -> None:
    expected = [picture.boxes.tolist() for picture in load_pictures(data)]
    lines = (data / "boxes.csv").read_text().splitlines()
    saved = "\r\n".join([f"{lines[0].upper()},WHO", *(f"{line},me" for line in lines[1:])])
    (data / "boxes.csv").write_text(saved.replace(",", ";"), encoding="utf-16")
    assert [picture.boxes.tolist() for picture in load_pictures(data)] == expected


def test_a_picture_that_is_none_is_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "images" / "broken.jpg").write_bytes(b"no picture")
    assert main(["evaluate", "faces", "--data", str(data)]) == 2
    assert "broken.jpg" in capsys.readouterr().err


def test_mined_windows_teach_face_net(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mined, weights = tmp_path / "mined", tmp_path / "face_net.onnx"
    mine = ["evaluate", "faces", "--data", str(data), "--mine", str(mined)]
    assert main(mine) == 0
    assert "windows of faces" in capsys.readouterr().out
    windows = load_split(mined, "FER2013Train")
    labels = face_labels(windows.votes)
    assert set(labels) == {0, 1}
    for box in windows.boxes[labels == 0].astype(float):
        assert overlaps(box, np.array([[0.0, 0, 48, 48]])) > 0.45  # .5, and rounded
    options = TrainOptions("face_net", (mined,), weights, epochs=1, batch_size=64, threads=1)
    assert train(options, Progress(disable=True)).classes == FACE_CLASSES
    assert FaceNet(weights).classes == FACE_CLASSES

    assert main([*mine, "--hard", "1"]) == 0
    assert ", 0 of none" in capsys.readouterr().out


def test_mined_windows_of_pictures_of_one_stem_are_kept_apart(data: Path, tmp_path: Path) -> None:
    (data / "images" / "astronaut.png").write_bytes(encode(".png", picture("astronaut.jpg")))
    mined = tmp_path / "mined"
    assert main(["evaluate", "faces", "--data", str(data), "--mine", str(mined)]) == 0
    names = [line.split(",")[0] for line in (mined / "label.csv").read_text().splitlines()]
    assert len(names) == len(set(names)) == len(list(mined.glob("*.png")))
