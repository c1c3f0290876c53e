"""Votes in, labels and targets out; an unusable data set is refused with a reason."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from worker.errors import UsageError
from worker.record import EMOTIONS
from worker.training.dataset import (
    REPEATS,
    Faces,
    class_shares,
    face_labels,
    lesson_for,
    load_split,
    load_splits,
    majority_labels,
)
from worker.training.tables import WHOLE

# neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, not a face
HAND_WORKED = [
    ([10, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0, [1, 0, 0, 0, 0, 0, 0, 0], True),
    ([0, 6, 4, 0, 0, 0, 0, 0, 0, 0], 1, [0, 0.6, 0.4, 0, 0, 0, 0, 0], True),
    # A tie has no majority, and teaches both.
    ([5, 5, 0, 0, 0, 0, 0, 0, 0, 0], -1, [0.5, 0.5, 0, 0, 0, 0, 0, 0], True),
    # Half is not more than half.
    ([4, 2, 2, 0, 0, 0, 0, 0, 0, 0], -1, [0.5, 0.25, 0.25, 0, 0, 0, 0, 0], True),
    # Single votes are dropped first: 4 of 6 is then a majority.
    ([4, 2, 1, 1, 1, 1, 0, 0, 0, 0], 0, [2 / 3, 1 / 3, 0, 0, 0, 0, 0, 0], True),
    # Votes for unknown count against a majority, but are no part of the target.
    ([4, 0, 0, 0, 0, 0, 0, 0, 6, 0], -1, [1, 0, 0, 0, 0, 0, 0, 0], False),
    ([0, 0, 0, 0, 0, 0, 6, 0, 4, 0], 6, [0, 0, 0, 0, 0, 0, 1, 0], True),
    ([0, 0, 0, 0, 0, 0, 0, 5, 5, 0], -1, [0, 0, 0, 0, 0, 0, 0, 1], False),
    ([0, 0, 0, 0, 0, 0, 0, 0, 0, 10], -1, [0] * 8, False),
    ([1, 1, 1, 1, 1, 1, 1, 1, 1, 1], -1, [0] * 8, False),
    ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0], -1, [0] * 8, False),
]


def test_the_share_of_a_class_is_that_of_the_faces_with_its_majority() -> None:
    votes = np.array([cast for cast, _, _, _ in HAND_WORKED])  # majorities: 0, 1, 0, 6
    shares = class_shares(EMOTIONS, votes)
    assert shares == dict(zip(EMOTIONS, (0.5, 0.25, 0, 0, 0, 0, 0.25, 0), strict=True))


@pytest.mark.parametrize(("votes", "label", "target", "usable"), HAND_WORKED)
def test_votes_become_labels_and_targets_as_the_paper_says(
    votes: list[int], label: int, target: list[float], usable: bool
) -> None:
    cast = np.array([votes])
    assert majority_labels(cast).tolist() == [label]
    lesson = lesson_for(EMOTIONS, Faces(np.zeros((1, 48, 48), np.uint8), cast, np.array([WHOLE])))
    shown = usable * REPEATS.get((*EMOTIONS, "none")[label], 1)
    assert len(lesson.crops) == len(lesson.targets) == shown
    assert all(each.tolist() == pytest.approx(target) for each in lesson.targets)


def test_rare_emotions_are_shown_more_often() -> None:
    votes = np.zeros((3, 10), int)
    votes[0, 0] = votes[1, EMOTIONS.index("disgust")] = 10
    votes[2, :2] = 5
    crops = np.arange(3, dtype=np.uint8).reshape(3, 1, 1).repeat(4, 1).repeat(4, 2)
    shown = lesson_for(EMOTIONS, Faces(crops, votes, np.tile(WHOLE, (len(crops), 1))))
    assert np.bincount(shown.crops[:, 0, 0]).tolist() == [1, REPEATS["disgust"], 1]


def write_split(folder: Path, lines: list[str], sizes: dict[str, tuple[int, int]]) -> None:
    folder.mkdir()
    (folder / "label.csv").write_text("\n".join(lines) + "\n")
    for name, size in sizes.items():
        cv2.imwrite(str(folder / name), np.zeros(size, np.uint8))


LINE = '{},"(0, 0, 48, 48)",4,0,0,1,3,2,0,0,0,0'


def test_a_split_is_read_in_the_order_of_its_table(tmp_path: Path) -> None:
    sizes = {"b.png": (48, 48), "a.png": (48, 48)}
    write_split(tmp_path / "T", [LINE.format("b.png"), LINE.format("a.png")], sizes)
    faces = load_split(tmp_path, "T")
    assert faces.crops.shape == (2, 48, 48)
    assert faces.crops.dtype == np.uint8
    assert faces.votes[0].tolist() == [4, 0, 0, 1, 3, 2, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("lines", "sizes", "says"),
    [
        (["a.png,box,1,2"], {}, "line 1: expected file,box and ten vote counts"),
        ([LINE.format("a.png"), "b.png,box,x" + ",1" * 9], {}, "line 2"),
        ([LINE.format("a.png")] * 2, {}, "2 of 2 pictures are missing"),
        (
            [LINE.format("a.png"), LINE.format("b.png")],
            {"a.png": (48, 48), "b.png": (9, 48)},
            "1 of 2 pictures are missing, unreadable or not 48x48 like the rest; .*b.png",
        ),
        ([LINE.format("a.png")], {"a.png": (40, 48)}, "not 40x40"),
    ],
)
def test_an_unusable_split_is_refused_with_a_reason(
    tmp_path: Path, lines: list[str], sizes: dict[str, tuple[int, int]], says: str
) -> None:
    write_split(tmp_path / "T", lines, sizes)
    with pytest.raises(UsageError, match=says):
        load_split(tmp_path, "T")


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "FER2013Test").mkdir()
    with pytest.raises(UsageError, match=r"expected a label\.csv"):
        load_split(tmp_path, "FER2013Test")
    with pytest.raises(UsageError, match=r"there is no folder .*FER2013Train"):
        load_split(tmp_path, "FER2013Train")
    with pytest.raises(UsageError, match="there is no folder"):
        load_split(tmp_path / "none", "FER2013Train")


def test_a_folder_for_each_emotion_is_a_data_set_and_a_tenth_is_held_out(tmp_path: Path) -> None:
    for kind, level in (("anger", 10), ("happiness", 20)):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "notes.txt").write_text("no picture")
        for i in range(100):
            cv2.imwrite(str(tmp_path / kind / f"{i}.png"), np.full((50, 50), level, np.uint8))
    train, valid = load_split(tmp_path, "FER2013Train"), load_split(tmp_path, "FER2013Valid")
    assert len(train.crops) + len(valid.crops) == 200
    assert 10 <= len(valid.crops) <= 40
    assert set(majority_labels(valid.votes)) == {1, 4}
    labels = majority_labels(train.votes)
    assert set(train.crops[labels == 4].ravel()) == {10}
    assert len(load_split(tmp_path, "FER2013Test").crops) == len(valid.crops)

    (tmp_path / "joy").mkdir()
    (tmp_path / "anger" / "0.png").rename(tmp_path / "joy" / "0.png")
    with pytest.raises(UsageError, match=r"emotions \(neutral, happiness, .*\); found joy"):
        load_split(tmp_path, "FER2013Train")
    (tmp_path / "empty" / "fear").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"images in folders named after .*; found none"):
        load_split(tmp_path / "empty", "FER2013Train")


def test_whether_it_is_a_face_is_decided_by_the_votes_for_none() -> None:
    votes = np.zeros((4, 10), int)
    votes[0, [0, 8]] = 5
    votes[1, 9] = 10
    votes[2, [1, 9]] = 5
    votes[3, [0, 9]] = 1
    assert face_labels(votes).tolist() == [0, 1, -1, -1]


def test_several_data_sets_are_put_together(tmp_path: Path) -> None:
    for name, side in (("a", 48), ("b", 48), ("c", 40)):
        write_split(tmp_path / name, [LINE.format("a.png")], {"a.png": (side, side)})
    folders = [tmp_path / name for name in ("a", "b", "c")]
    split = next(
        s for s in ("FER2013Train", "FER2013Valid") if len(load_split(folders[0], s).crops)
    )
    assert len(load_splits(folders[:2], split).crops) == 2
    with pytest.raises(UsageError, match=r"1 of 3 pictures are .* not 48x48 like .*/c/a\.png"):
        load_splits(folders, split)
