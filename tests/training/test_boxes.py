"""face_net learns where in its crop a face is from the boxes beside mined windows."""

import numpy as np
import pytest
import torch

from worker.training.boxes import learn_boxes
from worker.training.dataset import Faces
from worker.training.networks import build_network
from worker.training.networks.emotion_net import EmotionNet
from worker.training.tables import WHOLE, parse_box
from worker.training.views import as_seen

SIDE = 32


def squares(count: int, seed: int) -> Faces:
    """Dark pictures of 48 pixels with a bright square in each, which is the face."""
    random = np.random.default_rng(seed)
    crops = random.integers(0, 30, (count, 48, 48), dtype=np.uint8)
    sides = random.integers(24, 40, count)
    corners = (random.uniform(0, 1, (count, 2)) * (48 - sides[:, None])).astype(int)
    for crop, (x, y), side in zip(crops, corners, sides, strict=True):
        crop[y : y + side, x : x + side] += 150
    boxes = np.hstack([corners, corners + sides[:, None]])
    return Faces(crops, np.tile([0] * 8 + [10, 0], (count, 1)), boxes)


def look(network: EmotionNet, crops: np.ndarray) -> np.ndarray:
    faces = torch.from_numpy(crops).unsqueeze(1).float()
    with torch.inference_mode():
        return network.eval().look(as_seen(faces, SIDE))[1].numpy()


@pytest.fixture
def network() -> EmotionNet:
    torch.manual_seed(0)
    built = build_network("face_net", 2)
    assert isinstance(built, EmotionNet)
    return built


def test_it_says_of_other_crops_where_the_face_is(network: EmotionNet) -> None:
    assert not look(network, squares(5, 2).crops).any()  # untrained: a face fills its crop
    learn_boxes(network, squares(1500, 0), SIDE)
    others = squares(200, 1)
    found = look(network, others.crops)
    centers = (others.boxes[:, :2] + others.boxes[:, 2:]) / 96 - 0.5
    sides = np.log((others.boxes[:, 2] - others.boxes[:, 0]) / 48)
    for got, true in zip(found.T, (*centers.T, sides), strict=True):
        assert np.corrcoef(got, true)[0, 1] > 0.8


def test_what_says_nothing_of_boxes_changes_none(network: EmotionNet) -> None:
    faces = squares(50, 0)
    told_of_none = Faces(faces.crops, np.tile([0] * 9 + [10], (50, 1)), faces.boxes)
    whole = Faces(faces.crops, faces.votes, np.tile(WHOLE, (50, 1)))
    upside_down = Faces(faces.crops, faces.votes, faces.boxes[:, [2, 3, 0, 1]])
    for other in (told_of_none, whole, upside_down):
        learn_boxes(network, other, SIDE)
        assert not look(network, faces.crops).any()


def test_few_faces_teach_no_large_numbers(network: EmotionNet) -> None:
    learn_boxes(network, squares(3, 0), SIDE)
    assert np.abs(look(network, squares(50, 1).crops)).max() < 1


def test_an_emotion_network_has_nothing_to_learn() -> None:
    network = build_network("custom_net", 8)
    before = [each.clone() for each in network.parameters()]
    learn_boxes(network, squares(20, 0), SIDE)
    assert all(map(torch.equal, before, network.parameters()))


@pytest.mark.parametrize(
    ("cell", "box"),
    [
        ("(0, 0, 48, 48)", WHOLE),
        ("(-3, 2, 44, 49)", [-3, 2, 44, 49]),
        ("", WHOLE),
        ("unknown", WHOLE),
        ("1, 2, 3", WHOLE),
        ("9" * 400, WHOLE),
    ],
)
def test_a_cell_is_a_box_or_the_face_fills_its_crop(cell: str, box: list[int]) -> None:
    assert parse_box(cell) == box
