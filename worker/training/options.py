"""What one training run is: all that its flags say, and the command that repeats it."""

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from worker import PROGRAM

SETTING_ONLY = ("threads", "device")  # where it runs, not what comes out


@dataclass(frozen=True)
class TrainOptions:
    """One training run; each field is the flag of that name.

    ``learning_rate`` is the peak; ``weight_decay`` is of weights, never of norms and biases;
    ``threads`` 0: torch decides; ``side``: pixels, 0: what the network wants (smaller ones make a
    cheap first part of a training); ``init``: weights to begin with instead of random ones, ours
    or torchvision's VGG; ``teacher``: weights whose mean opinion is learned beside the votes;
    ``views``: how many augmented views of each face are stored with that opinion, 0: it is asked
    anew each time; ``mixup``: strength, 0: none; ``erase``: how often a part of a face is covered,
    0..1 (a small network learns more without, at the end); ``dropout``: of every dropout layer,
    None: the network's own (less of it suits a short schedule); ``sizes``: texts ``key=value`` of a
    member of emotion_net's family; ``mirrored``: as in `Facts`; ``bfloat16``: about 1.7 times
    faster on a CPU with avx512_bf16 and on a GPU, slower on a CPU without; ``device``: cpu, cuda,
    or auto.
    """

    network: str
    data: tuple[Path, ...]
    output: Path
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 0.05
    weight_decay: float = 5e-4
    seed: int = 0
    threads: int = 0
    side: int = 0
    init: Path | None = None
    teacher: tuple[Path, ...] = ()
    views: int = 0
    mixup: float = 0.0
    erase: float = 0.3
    dropout: float | None = None
    sizes: tuple[str, ...] = ()
    mirrored: bool = False
    bfloat16: bool = False
    device: str = "auto"

    def command(self) -> str:
        """The command that repeats this run, for the weights' facts; DIR stands for the data."""
        words = [f"{PROGRAM} train"]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in SETTING_ONLY and value != field.default:
                words += [f"--{field.name.replace('_', '-')}", *_words(field.name, value)]
        return " ".join(words)

    def chosen_sizes(self) -> dict[str, Any] | None:
        """``sizes`` as `build_network` takes them; None where none were chosen."""
        pairs = (text.partition("=")[::2] for text in self.sizes)
        return {key: value.split(",") if "," in value else value for key, value in pairs} or None


def _words(name: str, value: Any) -> list[str]:
    if name == "data":
        return ["DIR"] * len(value)
    if value is True:
        return []
    if name == "output":
        return [shlex.quote(value.name)]
    if isinstance(value, tuple):
        return [shlex.quote(str(each)) for each in value]
    return [f"{value:g}" if isinstance(value, float) else shlex.quote(str(value))]
