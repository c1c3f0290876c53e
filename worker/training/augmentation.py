"""Random changes to a batch of training faces: what real detections vary in, the label does not."""

import math

import torch
from torch import Tensor
from torch.nn import functional

ROTATION = 20.0  # degrees, either way
SCALE = 0.18  # fraction, either way
SHIFT = 0.10  # fraction of the side, either way
GAMMA = 0.4  # natural logarithm of the exponent, either way
ERASE_PROBABILITY = 0.4
ERASE_SIDE = (0.1, 0.4)  # fraction of the side


def augment(faces: Tensor) -> Tensor:
    """Mirror, rotate, scale, shift, relight and partly erase faces, each differently.

    ``faces``: float32 ``(n, 1, side, side)`` in gray levels 0..255; the result likewise. Uses
    torch's global random state, so that ``torch.manual_seed`` makes it repeatable. Brightness and
    contrast are left alone: the per-face normalisation takes them out again.
    """
    moved = functional.grid_sample(
        faces,
        functional.affine_grid(_random_affine(len(faces)), list(faces.shape), align_corners=False),
        padding_mode="border",
        align_corners=False,
    )
    exponent = torch.exp(_uniform(len(faces), GAMMA)).view(-1, 1, 1, 1)
    return _erase(255 * (moved / 255).clamp(min=0) ** exponent)


def _random_affine(count: int) -> Tensor:
    """Affine matrices ``(count, 2, 3)`` in the coordinates of ``affine_grid`` (the side is 2)."""
    angle = _uniform(count, ROTATION) * math.pi / 180
    scale = 1 + _uniform(count, SCALE)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift_x, shift_y = _uniform(count, 2 * SHIFT), _uniform(count, 2 * SHIFT)
    return torch.stack(
        [
            torch.stack([mirror * cos, -sin, shift_x], dim=1),
            torch.stack([mirror * sin, cos, shift_y], dim=1),
        ],
        dim=1,
    )


def _erase(faces: Tensor) -> Tensor:
    """Cover a random rectangle of some faces with that face's mean gray."""
    count, _, side, _ = faces.shape
    low, high = ERASE_SIDE
    sizes = (low + (high - low) * torch.rand(2, count, 1)) * side
    starts = torch.rand(2, count, 1) * (side - sizes)
    pixels = torch.arange(side)
    inside = (pixels >= starts) & (pixels < starts + sizes)
    chosen = torch.rand(count, 1, 1) < ERASE_PROBABILITY
    covered = inside[0].unsqueeze(2) & inside[1].unsqueeze(1) & chosen
    return torch.where(covered.unsqueeze(1), faces.mean(dim=(1, 2, 3), keepdim=True), faces)


def _uniform(count: int, bound: float) -> Tensor:
    return (torch.rand(count) * 2 - 1) * bound
