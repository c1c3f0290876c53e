"""What a person wrote: read and checked, with a hint at what a slip was probably meant to be."""

import math
import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

ALIKE = 0.55  # 0..1; `happy` and `happiness` reach 0.57


class Slip(ArgumentTypeError, ValueError):
    """Raised when a value in worker.ini, or of a flag, is not what its text then says."""


def number(kind: type, low: float, high: float, unit: str = "") -> Callable[[Any], Any]:
    """What reads an ``int`` or ``float`` from ``low`` to ``high``, and raises Slip."""
    words = f"a {'whole ' if kind is int else ''}number from {low:.12g} to {high:.12g}{unit}"

    def read(text: Any) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise Slip(f"must be {words}{fraction_hint(value) if high == 1 else ''}")
        return value

    return read


fraction = number(float, 0, 1)
port = number(int, 0, 65_535)


def address(text: str) -> str:
    """Where to listen, as HOST:PORT; a port alone is on loopback. Raises Slip."""
    parts = re.fullmatch(r"(?:([A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):)?([0-9]{1,5})", text)
    if parts is None or int(parts[2]) > 65_535:
        raise Slip("must look like 127.0.0.1:9464")
    return f"{parts[1] or '127.0.0.1'}:{parts[2]}"


def host_and_port(address: str) -> tuple[str, int]:
    """The two parts of such an address, as sockets take them."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def one_of(*known: str) -> Callable[[str], str]:
    """What reads one of these words, and raises Slip."""

    def read(text: str) -> str:
        if text not in known:
            raise Slip(f"must be one of {', '.join(known)}{did_you_mean(text, known)}")
        return text

    return read


def matching(pattern: str, words: str) -> Callable[[str], str]:
    """What reads a text that matches; ``words`` say the same to a person. Raises Slip."""

    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise Slip(f"must be {words}")
        return text

    return read


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` with the known word that is most like ``word``, or nothing."""
    close = get_close_matches(word.lower(), list(known), n=1, cutoff=ALIKE)
    return f"; did you mean {close[0]}?" if close else ""


def fraction_hint(number: float) -> str:
    """The same for a number that should be in 0..1 and looks like percent, or nothing."""
    return f"; did you mean {number / 100:g}?" if 1 < number <= 100 else ""
