"""What an epoch learns from: each training face once, changed by chance, and what it shows.

What it shows is told by the votes. With teachers, most of it is their mean opinion of the changed
face (Hinton et al. 2015). Asking them costs more than the pupil itself, so views may be stored and
shown again.
"""

import hashlib
import io

import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional

from worker.errors import UsageError
from worker.files import replace_file
from worker.training.augmentation import augment
from worker.training.dataset import Lesson
from worker.training.export import load_network, normalise
from worker.training.networks import classes_of
from worker.training.options import TrainOptions

SHARE = 0.7  # of what is learned is the teachers' opinion; the votes have the rest
BATCH = 256  # of faces that are only looked at


class Views:
    """The views of a run with these options that learns this lesson, on ``device``.

    Each epoch has a new one, or, with ``options.views``, the next of so many: these are stored in
    files that are memory-mapped, never all in memory. Each is made when it is first asked for and
    stands from then on in ``views-…`` beside the output, a folder that another run with the same
    faces and teachers finds again, however many it wants. A run that is interrupted loses no more
    than the view under way.

    Raises UsageError for a teacher that cannot be used or knows other classes.
    """

    def __init__(self, lesson: Lesson, options: TrainOptions, device: torch.device) -> None:
        if options.views and not options.teacher:
            raise UsageError("--views keeps what teachers say: name one with --teacher")
        self._bfloat16 = options.bfloat16
        self._crops = torch.from_numpy(lesson.crops).to(device)
        self._votes = torch.from_numpy(lesson.targets).to(device)
        self._teachers = []
        key = hashlib.sha256(lesson.crops.tobytes())
        for path in options.teacher:
            network, facts = load_network(path)
            if facts.classes != classes_of(options.network):
                raise UsageError(f"--teacher {path} knows other classes")
            network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._teachers.append((network, facts.input_size))
            key.update(path.read_bytes())
        self._folder = options.output.parent / f"views-{key.hexdigest()[:8]}"
        self._paths = [self._folder / f"{number:03}.pt" for number in range(options.views)]

    def cost(self) -> str:
        """What the stored views that are missing will take, for a person."""
        missing = sum(not path.exists() for path in self._paths)
        size = missing * (self._crops.nbytes + self._votes.nbytes) / 1e9
        made = f"{missing} of {len(self._paths)} views of {len(self._crops):,} faces"
        return f"{self._folder}: {made} are to be made, {size:.1f} GB"

    def load(self, epoch: int, bar: Progress) -> tuple[Tensor, Tensor]:
        """The view of an epoch, counted from 0: faces uint8 ``(n, side, side)`` and what is to be
        learned of each, float32 ``(n, classes)``. ``bar`` shows how it is made."""
        device = self._crops.device
        if not self._paths:
            faces, opinions = self._make(bar)
        else:
            number = epoch % len(self._paths)
            if not self._paths[number].exists():
                content = io.BytesIO()
                with torch.random.fork_rng():  # the epoch draws the same if the file is there
                    torch.manual_seed(number)
                    torch.save(self._make(bar), content)
                replace_file(self._paths[number], content.getvalue())
            faces, opinions = torch.load(self._paths[number], mmap=True, map_location="cpu")
        return faces.to(device), torch.lerp(self._votes, opinions.to(device), SHARE)

    def _make(self, bar: Progress) -> tuple[Tensor, Tensor]:
        """All faces, changed, and what the teachers, or without them the votes, say of each."""
        task = bar.add_task("the teachers look", total=len(self._crops))
        seen = []
        for crops, votes in zip(self._crops.split(BATCH), self._votes.split(BATCH), strict=True):
            seen.append(self._look(crops, votes))
            bar.advance(task, len(crops))
        bar.remove_task(task)
        faces, opinions = zip(*seen, strict=True)
        return torch.cat(faces), torch.cat(opinions)

    @torch.no_grad()
    def _look(self, crops: Tensor, votes: Tensor) -> tuple[Tensor, Tensor]:
        # The opinion is of just the pixels that are stored.
        faces = augment(crops.unsqueeze(1).float()).round()
        opinions = [votes]
        if self._teachers:
            # At temperature 1: on training faces a calibrated teacher would be too sure.
            with torch.autocast(faces.device.type, torch.bfloat16, enabled=self._bfloat16):
                logits = [network(as_seen(faces, side)) for network, side in self._teachers]
            opinions = [each.float().softmax(dim=1) for each in logits]
        return faces.squeeze(1).byte(), torch.stack(opinions).mean(dim=0)


def as_seen(faces: Tensor, side: int) -> Tensor:
    """Faces float32 ``(n, 1, any, any)`` as a network for this side is shown them."""
    if faces.shape[-1] != side:
        faces = functional.interpolate(faces, size=(side, side), mode="bilinear", antialias=True)
    return normalise(faces.squeeze(1)).contiguous(memory_format=torch.channels_last)
