"""Random changes keep the shape, the range and the repeatability."""

import torch

from worker.training.augmentation import augment


def faces() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (64, 1, 48, 48), generator=generator).float()


def test_shape_and_range_are_kept() -> None:
    changed = augment(faces())
    assert changed.shape == (64, 1, 48, 48)
    assert changed.dtype == torch.float32
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 255


def test_each_face_is_changed_differently_and_the_same_seed_changes_them_the_same() -> None:
    same = faces()[:1].expand(64, 1, 48, 48).contiguous()
    torch.manual_seed(7)
    once = augment(same)
    torch.manual_seed(7)
    again = augment(same)
    assert torch.equal(once, again)
    assert len({tuple(face.flatten().tolist()) for face in once}) == 64


def test_a_face_stays_recognisable_in_the_middle() -> None:
    disc = torch.zeros(200, 1, 48, 48)
    disc[:, :, 14:34, 14:34] = 255
    torch.manual_seed(0)
    middle = augment(disc)[:, :, 22:26, 22:26].mean(dim=(1, 2, 3))
    # A quarter may be covered in part; the rest must still be bright.
    assert float((middle > 200).float().mean()) > 0.8


def test_about_half_of_the_faces_are_mirrored() -> None:
    halves = torch.zeros(400, 1, 48, 48)
    halves[:, :, :, :24] = 255
    torch.manual_seed(0)
    changed = augment(halves)
    left, right = changed[:, 0, 20:28, :10].mean((1, 2)), changed[:, 0, 20:28, -10:].mean((1, 2))
    assert 0.4 < float((left < right).float().mean()) < 0.6
