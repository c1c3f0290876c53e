"""What one training run is: the options of `train`, and the command that repeats it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from worker import PROGRAM
from worker.hints import fraction, number, one_of

NOT_TOLD = ("data", "output", "threads", "device")  # where it runs, not what comes out

count = number(int, 1, 1e9)
few = number(int, 0, 1024)


def _flag(default: Any, read: Any, words: str) -> Any:
    """A field; its metadata are what argparse is told of its flag."""
    stated = "; default: %(default)s" if default else ""
    many = {"nargs": "+"} if default == () else {}
    return field(default=default, metadata={"type": read, "help": words + stated, **many})


def _switch(words: str) -> Any:
    return field(default=False, metadata={"action": "store_true", "help": words})


@dataclass(frozen=True)
class TrainOptions:
    """One training run. Each field is the flag of that name, whose help says what it is."""

    network: str
    data: Sequence[Path]
    output: Path
    epochs: int = _flag(10, count, "how often each face is seen")
    batch_size: int = _flag(64, count, "no more than there are faces")
    learning_rate: float = _flag(0.05, number(float, 0, 10), "peak; with --init take 0.005")
    weight_decay: float = _flag(5e-4, fraction, "of weights, not of norms and biases")
    mixup: float = _flag(0.0, number(float, 0, 10), "how strongly faces are blended; default: not")
    erase: float = _flag(0.3, fraction, "how often a part of a face is covered, 0 to 1")
    dropout: float | None = _flag(None, fraction, "0 to 1; default: what each layer has")
    seed: int = _flag(0, number(int, 0, 1e9), "of all that is drawn by chance; default: 0")
    threads: int = _flag(0, few, "of the CPU; default: all")
    side: int = _flag(0, few, "pixels of a face; default: what the network wants")
    init: Path | None = _flag(None, Path, "begin with these; vgg_net also with torchvision's .pth")  # noqa: RUF009
    teacher: Sequence[Path] = _flag((), Path, "weights whose mean opinion is learned, too")
    views: int = _flag(0, few, "of a face, stored with what the teachers say; default: none")
    sizes: Sequence[str] = _flag((), str, "such as channels=16,48,128 blocks=1,1,1 attention=no")
    mirrored: bool = _switch("ask about a face and its mirror image: better, twice the time")
    bfloat16: bool = _switch("faster, on a GPU or a CPU that knows it")
    device: str = _flag("auto", one_of("auto", "cpu", "cuda"), "auto: a GPU if torch finds one")

    def command(self) -> str:
        """The command that repeats this run, for the weights' facts."""
        words = [PROGRAM, "train", "--data", "DIR", "--output", "FILE"]
        for option in fields(self):
            value = getattr(self, option.name)
            if option.name in NOT_TOLD or value == option.default:
                continue
            words.append(f"--{option.name.replace('_', '-')}")
            if value is not True:
                words += map(str, value if "nargs" in option.metadata else [value])
        return shlex.join(words)

    def chosen_sizes(self) -> dict[str, Any]:
        """``sizes`` as `build_network` takes them."""
        pairs = (text.partition("=")[::2] for text in self.sizes)
        return {key: _value(key, text) for key, text in pairs}


def _value(key: str, text: str) -> Any:
    if text in ("yes", "no"):
        return text == "yes"
    parts = [int(part) if part.isdecimal() else part for part in text.split(",")]
    if key in ("channels", "blocks"):
        return parts
    return parts[0] if len(parts) == 1 else text
