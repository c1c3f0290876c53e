"""The FER+ layout out of the two files that users download."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from worker.cli import main
from worker.errors import UsageError
from worker.training.dataset import load_split
from worker.training.fer2013 import prepare

USAGES = ("Training", "Training", "PublicTest", "PrivateTest")
NAMES = ("fer0000000.png", "", "fer0000002.png", "fer0000003.png")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    pixels = ["emotion,pixels,Usage"]
    votes = ["Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt"]
    votes[0] += ",unknown,NF"
    for number, (usage, name) in enumerate(zip(USAGES, NAMES, strict=True)):
        pixels.append(f"0,{' '.join([str(number * 10)] * 48 * 48)},{usage}")
        votes.append(f"{usage},{name},{number},0,0,0,0,0,0,0,0,{10 - number}")
    paths = tmp_path / "fer2013.csv", tmp_path / "fer2013new.csv"
    for path, lines in zip(paths, (pixels, votes), strict=True):
        path.write_text("\n".join(lines) + "\n")
    return paths


def test_the_layout_is_one_that_load_split_reads(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "ferplus"
    command = ["train", "--prepare", *map(str, files), "--output", str(output)]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines() == [
        "FER2013Train\t1 faces",
        "FER2013Valid\t1 faces",
        "FER2013Test\t1 faces",
    ]
    valid = load_split(output, "FER2013Valid")
    assert valid.votes.tolist() == [[2, 0, 0, 0, 0, 0, 0, 0, 0, 8]]
    assert np.unique(valid.crops).tolist() == [20]
    assert cv2.imread(str(output / "FER2013Test" / "fer0000003.png")) is not None


def test_files_that_do_not_belong_together_are_refused(files: tuple[Path, Path]) -> None:
    pixels, votes = files
    lines = pixels.read_text().splitlines()
    output = pixels.parent / "out"

    def refuse(text: str, says: str) -> None:
        pixels.write_text(text)
        with pytest.raises(UsageError, match=says):
            prepare(pixels, votes, output)
        assert not list(output.glob("*/label.csv"))

    refuse("\n".join(lines[:3]), r"fer2013new\.csv, line 4, .*fer2013\.csv, line 4: not as in")
    refuse("\n".join([lines[0], lines[3], *lines[2:]]), "line 2: .* not about the same picture")
    refuse("\n".join([lines[0], lines[1].replace(" 0", " x", 1), *lines[2:]]), "line 2: ")
    refuse("\n".join([lines[0], lines[1].replace(" 0", " 256", 1), *lines[2:]]), "line 2: ")
    with pytest.raises(UsageError, match=r"line 1: expected the columns"):
        prepare(votes, pixels.replace(votes.with_name("fer2013new.csv")), output)
    with pytest.raises(UsageError, match=r"none\.csv, line 1: cannot be read"):
        prepare(pixels, pixels.parent / "none.csv", output)
