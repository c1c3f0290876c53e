"""Random changes to a batch of training faces: what real detections vary in, the label does not.

All of them draw from torch's global random state, so that ``torch.manual_seed`` makes them
repeatable, and work on the device that the faces are on. Faces are float32 ``(n, 1, side, side)``
in gray levels 0..255, before and after.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

ROTATION = 20.0  # degrees, either way
SCALE = 0.18  # fraction, either way
SHIFT = 0.10  # fraction of the side, either way
GAMMA = 0.4  # natural logarithm of the exponent, either way
ERASE_SIDE = (0.1, 0.4)  # fraction of the side


def augment(faces: Tensor) -> Tensor:
    """Mirror, rotate, scale, shift and relight faces, each differently.

    Brightness and contrast are left alone: the per-face normalisation takes them out again.
    """
    matrices = _random_affine(len(faces), faces.device)
    moved = functional.grid_sample(
        faces,
        functional.affine_grid(matrices, list(faces.shape), align_corners=False),
        padding_mode="border",
        align_corners=False,
    )
    exponent = torch.exp(_uniform(len(faces), GAMMA, faces.device)).view(-1, 1, 1, 1)
    return 255 * (moved / 255).clamp(0, 1) ** exponent


def mirror(faces: Tensor) -> Tensor:
    """Mirror about half of the faces."""
    chosen = torch.rand(len(faces), 1, 1, 1, device=faces.device) < 0.5
    return torch.where(chosen, faces.flip(3), faces)


def erase(faces: Tensor, probability: float) -> Tensor:
    """Cover a random rectangle of a face with its mean gray, each face with this ``probability``.

    Done after a teacher has looked: a pupil that sees less learns what the teacher saw.
    """
    count, _, side, _ = faces.shape
    low, high = ERASE_SIDE
    device = faces.device
    sizes = (low + (high - low) * torch.rand(2, count, 1, device=device)) * side
    starts = torch.rand(2, count, 1, device=device) * (side - sizes)
    pixels = torch.arange(side, device=device)
    inside = (pixels >= starts) & (pixels < starts + sizes)
    chosen = torch.rand(count, 1, 1, device=device) < probability
    covered = inside[0].unsqueeze(2) & inside[1].unsqueeze(1) & chosen
    return torch.where(covered.unsqueeze(1), faces.mean(dim=(1, 2, 3), keepdim=True), faces)


def mix_up(inputs: Tensor, targets: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Blend each input and its target with another one of the batch (Zhang et al. 2018).

    ``inputs`` ``(n, …)``, ``targets`` ``(n, classes)``; the share of the first is drawn from
    Beta(strength, strength), one for the batch.
    """
    share = float(torch.distributions.Beta(strength, strength).sample())
    other = torch.randperm(len(inputs), device=inputs.device)
    return torch.lerp(inputs[other], inputs, share), torch.lerp(targets[other], targets, share)


def _random_affine(count: int, device: torch.device) -> Tensor:
    """Affine matrices ``(count, 2, 3)`` in the coordinates of ``affine_grid`` (the side is 2)."""
    angle = _uniform(count, ROTATION, device) * math.pi / 180
    scale = 1 + _uniform(count, SCALE, device)
    mirrored = torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift_x, shift_y = (_uniform(count, 2 * SHIFT, device) for _ in range(2))
    rows = [mirrored * cos, -sin, shift_x, mirrored * sin, cos, shift_y]
    return torch.stack(rows, dim=1).view(count, 2, 3)


def _uniform(count: int, bound: float, device: torch.device) -> Tensor:
    return (torch.rand(count, device=device) * 2 - 1) * bound
