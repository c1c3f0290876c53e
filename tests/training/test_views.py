"""What teachers say, and the stored views that hold it."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from worker.analysis.weights_file import Facts
from worker.errors import UsageError
from worker.record import EMOTIONS, FACE_CLASSES
from worker.training.export import export_network, load_network, normalise
from worker.training.networks import build_network, sizes_of
from worker.training.teachers import SHARE, Teachers, lesson_of
from worker.training.views import Views

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
        export_network(paths[-1], network, facts)
    return paths


def crops(count: int = 70) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 48, 48)).astype(np.uint8)


def test_the_opinion_is_the_mean_of_the_uncalibrated_probabilities(teachers: list[Path]) -> None:
    faces = torch.from_numpy(crops(5)).unsqueeze(1).float()
    with torch.inference_mode():
        alone = [
            load_network(path)[0](normalise(faces.squeeze(1))).softmax(dim=1) for path in teachers
        ]
    opinion = Teachers(teachers, EMOTIONS, CPU).opinion(faces)
    assert torch.allclose(opinion, (alone[0] + alone[1]) / 2, atol=1e-5)
    assert not torch.allclose(alone[0], alone[1], atol=1e-3)


def test_the_votes_have_the_rest_of_the_lesson() -> None:
    lesson = lesson_of(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]))
    assert lesson.tolist() == [pytest.approx([1 - SHARE, SHARE])]


def test_a_teacher_of_other_classes_is_refused(teachers: list[Path]) -> None:
    with pytest.raises(UsageError, match="knows other classes"):
        Teachers(teachers, FACE_CLASSES, CPU)


def test_a_view_holds_each_face_changed_and_what_is_said_of_just_these_pixels(
    teachers: list[Path], tmp_path: Path
) -> None:
    asked = Teachers(teachers, EMOTIONS, CPU)
    told: list[tuple[int, int]] = []
    view = Views(tmp_path, crops(), asked, count=2).load(0, lambda *done: told.append(done))
    assert view.faces.shape == (70, 48, 48)
    assert view.faces.dtype == torch.uint8
    assert not np.array_equal(view.faces.numpy(), crops())
    assert torch.allclose(view.opinions, asked.opinion(view.faces.unsqueeze(1).float()), atol=1e-5)
    assert told[-1] == (70, 70)


def test_a_view_is_made_once_for_all_who_need_it(teachers: list[Path], tmp_path: Path) -> None:
    asked = Teachers(teachers, EMOTIONS, CPU)
    first = Views(tmp_path, crops(), asked, count=2)
    made = [first.load(number, lambda *done: None) for number in range(2)]
    assert not torch.equal(made[0].faces, made[1].faces)
    stamps = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    assert sorted(path.name for path in stamps) == ["000.npy", "001.npy"]

    more = Views(tmp_path, crops(), Teachers(teachers, EMOTIONS, CPU), count=3)
    assert more.folder == first.folder
    again = [more.load(number, lambda *done: pytest.fail("made anew")) for number in range(2)]
    assert all(torch.equal(a.faces, b.faces) for a, b in zip(made, again, strict=True))
    assert torch.equal(first.load(2, lambda *done: None).faces, made[0].faces)  # modulo its count
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps

    fewer_teachers = Teachers(teachers[:1], EMOTIONS, CPU)
    assert Views(tmp_path, crops(), fewer_teachers, count=2).folder != first.folder
    assert Views(tmp_path, crops(60), asked, count=2).folder != first.folder


def test_an_interrupted_view_is_begun_anew_and_ends_the_same(
    teachers: list[Path], tmp_path: Path
) -> None:
    class InterruptedViewError(Exception):
        pass

    def interrupt(*done: int) -> None:
        raise InterruptedViewError

    asked = Teachers(teachers, EMOTIONS, CPU)
    views = Views(tmp_path, crops(), asked, count=1)
    with pytest.raises(InterruptedViewError):
        views.load(0, interrupt)
    resumed = views.load(0, lambda *done: None)
    (tmp_path / "whole").mkdir()
    whole = Views(tmp_path / "whole", crops(), asked, count=1).load(0, lambda *done: None)
    assert torch.equal(resumed.faces, whole.faces)
    assert torch.equal(resumed.opinions, whole.opinions)


def test_what_views_cost_is_said_and_a_disk_without_room_refuses(
    teachers: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Teachers(teachers, EMOTIONS, CPU)
    views = Views(tmp_path, crops(), asked, count=3)
    views.load(0, lambda *done: None)
    said = views.cost()
    assert "2 of 3 views of 70 faces are to be made" in said
    assert "0.0 GB and about 0 minutes" in said
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(UsageError, match=r"--views 3: .* needs 0\.0 GB more, 0\.0 GB are free"):
        views.cost()
