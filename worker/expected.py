"""How often each emotion is to be expected, and what that does to a network's probabilities.

A network learns from its training faces how often each emotion comes, and leans towards the common
ones when a face leaves it in doubt. If that is known to be otherwise, as in posed pictures, each
probability is multiplied by expected ÷ share in the training faces, and all are renormalised
(Saerens et al. 2002).
"""

from collections.abc import Mapping, Sequence

from worker.errors import UsageError
from worker.hints import Slip, did_you_mean, fraction
from worker.record import EMOTIONS

AS_TRAINED, EVEN = "as trained", "even"


def parse_expected(text: str) -> dict[str, float] | None:
    """What `[classification] expected` says: a fraction for each emotion that it names; nothing for
    ``even``; None for ``as trained``.

    Raises Slip, which says what is wrong with the text.
    """
    text = " ".join(text.split())
    if text == AS_TRAINED:
        return None
    expected: dict[str, float] = {}
    for part in [] if text == EVEN else text.split(","):
        name, _, share = part.strip().partition(" ")
        if name not in EMOTIONS or name in expected:
            raise Slip(
                f"must be {AS_TRAINED}, {EVEN}, or emotions with their fractions, such as neutral "
                f"0.5, happiness 0.2, each once{did_you_mean(name, [*EMOTIONS, EVEN])}"
            )
        try:
            expected[name] = fraction(share)
        except Slip as slip:
            raise Slip(f"{name} {slip}") from None
    if sum(expected.values()) > 1 + 1e-9:
        raise Slip(f"its fractions make {sum(expected.values()):g}, more than 1")
    return expected


def class_weights(
    expected: Mapping[str, float] | None,
    classes: Sequence[str],
    shares: Mapping[str, float] | None,
) -> list[float]:
    """By what the probability of each of ``classes`` is to be multiplied, before all are
    renormalised. Classes that ``expected`` does not name share the rest evenly; None: as trained.

    ``shares``: how often each class was among the training faces. A class that was not among them
    gets 0: the network cannot know it. Raises UsageError if they are needed, and there are none.
    """
    if expected is None:
        return [1.0] * len(classes)
    if shares is None:
        raise UsageError(
            "[classification] expected: the weights file does not say how often each emotion was "
            "among its training faces; use a file of weights/, or train it anew"
        )
    rest = max(0.0, 1 - sum(expected.values())) / max(1, len(classes) - len(expected))
    return [
        expected.get(name, rest) / shares[name] if shares.get(name) else 0.0 for name in classes
    ]
