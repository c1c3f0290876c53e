"""What a slip was probably meant to be, as the end of an error message."""

from collections.abc import Iterable
from difflib import get_close_matches

ALIKE = 0.55  # 0..1; `happy` and `happiness` reach 0.57


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` with the known word that is most like ``word``, or nothing."""
    close = get_close_matches(word.lower(), list(known), n=1, cutoff=ALIKE)
    return f"; did you mean {close[0]}?" if close else ""


def fraction_hint(number: float) -> str:
    """The same for a number that should be in 0..1 and looks like percent, or nothing."""
    return f"; did you mean {number / 100:g}?" if 1 < number <= 100 else ""
