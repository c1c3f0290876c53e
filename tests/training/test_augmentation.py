"""Random changes keep the shape, the range and the repeatability."""

import pytest
import torch

from worker.training.augmentation import augment, erase, mirror, mix_up


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
    assert float((middle > 200).float().mean()) > 0.95


def test_about_half_of_the_faces_are_mirrored() -> None:
    halves = torch.zeros(400, 1, 48, 48)
    halves[:, :, :, :24] = 255
    torch.manual_seed(0)
    changed = augment(halves)
    left, right = changed[:, 0, 20:28, :10].mean((1, 2)), changed[:, 0, 20:28, -10:].mean((1, 2))
    assert 0.4 < float((left < right).float().mean()) < 0.6


def test_mirroring_alone_turns_half_of_them_and_changes_nothing_else() -> None:
    before = faces()
    torch.manual_seed(0)
    after = mirror(before)
    turned = torch.tensor([torch.equal(a, b.flip(2)) for a, b in zip(after, before, strict=True)])
    same = torch.tensor([torch.equal(a, b) for a, b in zip(after, before, strict=True)])
    assert bool((turned | same).all())
    assert 16 < int(turned.sum()) < 48


def test_erasing_covers_one_rectangle_of_some_with_their_mean() -> None:
    before = faces().repeat(4, 1, 1, 1)
    torch.manual_seed(0)
    after = erase(before, 0.3)
    changed = (after != before)[:, 0]
    covered = changed.any(dim=2).any(dim=1)
    assert 0.2 < float(covered.float().mean()) < 0.4
    assert torch.equal(erase(before, 0), before)
    for face, was, where in zip(after[covered], before[covered], changed[covered], strict=True):
        rows, columns = where.any(dim=1).nonzero(), where.any(dim=0).nonzero()
        patch = face[0, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert torch.allclose(patch, was.mean())
        assert 4 <= max(patch.shape) <= 20


def test_mixed_up_inputs_and_targets_have_the_same_shares() -> None:
    torch.manual_seed(3)
    inputs, targets = torch.arange(6.0).view(6, 1).repeat(1, 4), torch.eye(6)
    mixed, wanted = mix_up(inputs, targets, strength=0.5)
    assert mixed.shape == (6, 4)
    assert wanted.sum(dim=1).tolist() == pytest.approx([1] * 6)
    # A target says which inputs went into the mixture, and how much of each.
    assert torch.allclose(wanted @ inputs, mixed, atol=1e-5)
    assert not torch.equal(mixed, inputs)
