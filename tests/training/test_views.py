"""What teachers say, and the stored views that hold it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import Progress, TaskID

from tests.training.tensors_only import tensors_only
from worker.analysis.weights_file import Facts
from worker.record import EMOTIONS
from worker.training.dataset import Lesson
from worker.training.export import export_network, load_network, normalise
from worker.training.networks import build_network, sizes_of
from worker.training.options import TrainOptions
from worker.training.views import SHARE, Views

CPU = torch.device("cpu")
SIZES = {"channels": [8, 8], "blocks": [1, 1], "attention": False}


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two small networks that disagree."""
    folder = tmp_path_factory.mktemp("teachers")
    paths = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        network = build_network("emotion_net", len(EMOTIONS), SIZES).eval()
        facts = Facts(
            network="emotion_net",
            classes=EMOTIONS,
            input_size=48,
            temperature=0.5,
            recipe="made up",
            validation_accuracy=0.1,
            sizes=sizes_of(network),
        )
        paths.append(folder / f"{seed}.onnx")
        with tensors_only():
            export_network(paths[-1], network, facts)
    return paths


def lesson(count: int = 70) -> Lesson:
    crops = np.random.default_rng(0).integers(0, 256, (count, 48, 48)).astype(np.uint8)
    return Lesson(crops, np.eye(len(EMOTIONS), dtype=np.float32)[np.arange(count) % 8])


def views_of(teachers: list[Path], folder: Path, views: int, count: int = 70) -> Views:
    options = TrainOptions("emotion_net", (), folder / "w.onnx", teacher=teachers, views=views)
    return Views(lesson(count), options, CPU)


def bar() -> Progress:
    return Progress(disable=True)


class InterruptedViewError(Exception):
    pass


class Interrupting(Progress):
    """Stands for Ctrl-C while the teachers look."""

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        raise InterruptedViewError


def test_a_view_holds_each_face_changed_and_what_is_said_of_just_these_pixels(
    teachers: list[Path], tmp_path: Path
) -> None:
    faces, wanted = views_of(teachers, tmp_path, 2).load(0, bar())
    assert (faces.shape, faces.dtype) == ((70, 48, 48), torch.uint8)
    assert not np.array_equal(faces.numpy(), lesson().crops)
    # The mean of the teachers' uncalibrated probabilities, mixed with the votes
    with torch.inference_mode():
        said = [load_network(path)[0](normalise(faces)).softmax(dim=1) for path in teachers]
    assert not torch.allclose(said[0], said[1], atol=1e-3)
    expected = SHARE * (said[0] + said[1]) / 2 + (1 - SHARE) * torch.from_numpy(lesson().targets)
    assert torch.allclose(wanted, expected, atol=1e-5)


def test_without_teachers_the_votes_tell_all_and_nothing_is_stored(tmp_path: Path) -> None:
    views = views_of([], tmp_path, 0)
    first, second = (views.load(epoch, bar()) for epoch in range(2))
    assert torch.equal(first[1], torch.from_numpy(lesson().targets))
    assert not torch.equal(first[0], second[0])
    assert not list(tmp_path.iterdir())


def test_a_view_is_made_once_for_all_who_need_it(teachers: list[Path], tmp_path: Path) -> None:
    first = views_of(teachers, tmp_path, 2)
    made = [first.load(number, bar())[0] for number in range(2)]
    assert not torch.equal(made[0], made[1])
    [folder] = tmp_path.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["000.pt", "001.pt"]

    more = views_of(teachers, tmp_path, 3)
    again = [more.load(number, Interrupting())[0] for number in range(2)]  # not made anew
    assert all(torch.equal(a, b) for a, b in zip(made, again, strict=True))
    assert torch.equal(first.load(2, Interrupting())[0], made[0])  # modulo its count

    views_of(teachers[:1], tmp_path, 2).load(0, bar())
    views_of(teachers, tmp_path, 2, count=60).load(0, bar())
    assert len(list(tmp_path.iterdir())) == 3


def test_what_an_epoch_draws_does_not_depend_on_whether_its_view_was_there(
    teachers: list[Path], tmp_path: Path
) -> None:
    views, drawn = views_of(teachers, tmp_path, 1), []
    for _ in range(2):
        torch.manual_seed(5)
        views.load(0, bar())
        drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[1])


def test_an_interrupted_view_is_begun_anew_and_ends_the_same(
    teachers: list[Path], tmp_path: Path
) -> None:
    views = views_of(teachers, tmp_path / "resumed", 1)
    with pytest.raises(InterruptedViewError):
        views.load(0, Interrupting())
    resumed = views.load(0, bar())
    whole = views_of(teachers, tmp_path / "whole", 1).load(0, bar())
    assert all(torch.equal(a, b) for a, b in zip(resumed, whole, strict=True))


def test_what_views_cost_is_said(teachers: list[Path], tmp_path: Path) -> None:
    views = views_of(teachers, tmp_path, 3)
    views.load(0, bar())
    assert "2 of 3 views of 70 faces are to be made, 0.0 GB" in views.cost()
