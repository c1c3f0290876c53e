"""Tables as spreadsheets and download sites leave them: read, or one error with file and line."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.photographs import encode
from worker.errors import UsageError
from worker.training.dataset import load_split
from worker.training.fer2013 import USAGES, prepare
from worker.training.tables import read_rows

ROWS = [["grüße 1.png", "(0, 0, 48, 48)", "3"], ["b.png", "", "0"]]
PLAIN = 'grüße 1.png,"(0, 0, 48, 48)",3\nb.png,,0\n'


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(PLAIN.encode(), id="UTF-8"),
        pytest.param(PLAIN.encode("utf-8-sig"), id="with a mark"),
        pytest.param(PLAIN.encode("utf-16"), id="UTF-16"),
        pytest.param(b"\xfe\xff" + PLAIN.encode("utf-16-be"), id="UTF-16, the other way round"),
        pytest.param(gzip.compress(PLAIN.encode(), mtime=0), id="gzip"),
        pytest.param(gzip.compress(PLAIN.encode("utf-16"), mtime=0), id="both"),
        pytest.param(PLAIN.replace("\n", "\r\n").encode(), id="Windows"),
        pytest.param(PLAIN.replace("\n", "\r").encode(), id="an old Macintosh"),
        pytest.param('grüße 1.png;"(0, 0, 48, 48)";3\nb.png;;0'.encode(), id="semicolons"),
        pytest.param('grüße 1.png\t"(0, 0, 48, 48)"\t3\nb.png\t\t0\n'.encode(), id="tabs"),
        pytest.param(
            'grüße 1.png ,"(0, 0, 48, 48)", 3,,,\n,,,\n\nb.png,,0,,\n'.encode(), id="more cells"
        ),
    ],
)
def test_every_form_gives_the_same_rows(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    assert [cells for _, cells in read_rows(tmp_path / "t.csv")] == ROWS


@pytest.mark.parametrize(
    ("content", "line"),
    [
        pytest.param(PLAIN.encode() + b"\xff\xfe,", 1, id="foreign bytes"),
        pytest.param(PLAIN.encode("utf-16")[:-1], 2, id="half a character"),
        pytest.param(PLAIN.encode("utf-16-le"), 1, id="UTF-16 without its mark"),
        pytest.param(b"a,b\na,\0\n", 2, id="zero bytes"),
        pytest.param(b"a," + b"x" * 200_000, 1, id="a field without end"),
        pytest.param(gzip.compress(PLAIN.encode(), mtime=0)[:-9], 3, id="half a gzip"),
        pytest.param(b"\x1f\x8bno gzip at all", 1, id="no gzip"),
        pytest.param(b"PK\x03\x04\x14\0\0\0", 1, id="a zip archive"),
    ],
)
def test_what_cannot_be_read_is_one_error(tmp_path: Path, content: bytes, line: int) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UsageError, match=rf"t\.csv, line {line}: cannot be read as CSV"):
        list(read_rows(tmp_path / "t.csv"))


@pytest.fixture
def label_table(tmp_path: Path) -> Callable[[str], None]:
    """Writes a table for one picture of a split."""
    split = tmp_path / "data" / "FER2013Valid"
    split.mkdir(parents=True)
    (split / "a.png").write_bytes(encode(".png", np.zeros((48, 48), np.uint8)))

    def write(line: str) -> None:
        (split / "label.csv").write_text(line)

    return write


def test_votes_may_be_whole_numbers_of_any_form(
    label_table: Callable[[str], None], tmp_path: Path
) -> None:
    label_table("\ufeffa.png,,10.0, 0 ,0,0,0,0,0,0,0,0,,\n")
    assert load_split(tmp_path / "data", "FER2013Valid").votes.tolist() == [[10] + [0] * 9]


@pytest.mark.parametrize("votes", ["-1", "0.5", "nan", "inf", "1e30", "x", ""])
def test_votes_that_are_none_are_named(
    label_table: Callable[[str], None], tmp_path: Path, votes: str
) -> None:
    label_table(f"a.png,,10,0,0,0,0,0,0,0,0,0\na.png,,{votes},0,0,0,0,0,0,0,0,0\n")
    with pytest.raises(UsageError, match=r"label\.csv, line 2: expected file,box and ten"):
        load_split(tmp_path / "data", "FER2013Valid")


@pytest.mark.parametrize("name", ["../secret.png", "link.png", "/etc/hostname", "linked/a.png"])
def test_no_name_leads_out_of_the_folder(
    label_table: Callable[[str], None], tmp_path: Path, name: str
) -> None:
    secret = tmp_path / "data" / "secret.png"
    secret.write_bytes(encode(".png", np.zeros((48, 48), np.uint8)))
    (tmp_path / "data" / "FER2013Valid" / "link.png").symlink_to(secret)
    (tmp_path / "data" / "FER2013Valid" / "linked").symlink_to(tmp_path / "data")
    label_table(f"{name},,10,0,0,0,0,0,0,0,0,0\n")
    with pytest.raises(UsageError, match=r"label\.csv, line 1: .* leads out of the folder"):
        load_split(tmp_path / "data", "FER2013Valid")


def test_what_tools_leave_in_folders_of_emotions_is_passed_over(tmp_path: Path) -> None:
    for name in ("anger/a.png", "anger/._a.png", "__MACOSX/x.png", ".ipynb_checkpoints/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encode(".png", np.zeros((48, 48), np.uint8)))
    faces = [load_split(tmp_path, split) for split in ("FER2013Train", "FER2013Valid")]
    assert sum(len(part.crops) for part in faces) == 1


def test_kaggles_other_file_serves_as_well(tmp_path: Path) -> None:
    names = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    levels = " ".join(["7"] * 48 * 48)
    pixels = tmp_path / "icml_face_data.csv.gz"
    pixels.write_bytes(
        gzip.compress(f"emotion, Usage, pixels\r\n0, Training, {levels}\r\n".encode(), mtime=0)
    )
    votes = tmp_path / "fer2013new.csv"
    votes.write_text(f"\ufeffUsage,Image name,{names}\nTraining,a.png,9.0,1,0,0,0,0,0,0,0,0\n")
    assert prepare(pixels, votes, tmp_path / "out")[USAGES["Training"]] == 1
    assert load_split(tmp_path / "out", "FER2013Train").votes[0].tolist()[:2] == [9, 1]
    (tmp_path / "train.csv").write_text(f"emotion,pixels\n0,{levels}\n")
    with pytest.raises(UsageError, match=r"train\.csv, line 1: expected the columns pixels,usage"):
        prepare(tmp_path / "train.csv", votes, tmp_path / "out")
