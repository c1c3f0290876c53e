"""How far people who label the same faces agree, beyond what chance would bring about."""

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import combinations

Votes = Mapping[str, Mapping[str, str]]  # labeller -> face -> label


def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's kappa of two labellers, given the two labels of each face; 1: always agree, 0: as
    often as by chance. None if it is not defined: no face, or only one label in use.

    kappa = (p_o - p_e) / (1 - p_e): p_o the share of faces with equal labels, p_e the sum over the
    labels of the product of their two shares (J. Cohen, "A coefficient of agreement for nominal
    scales", Educational and Psychological Measurement 20, 1960, p. 37-46).
    """
    first, second = (Counter(pair[side] for pair in pairs) for side in (0, 1))
    equal = sum(a == b for a, b in pairs)
    by_chance = sum(first[label] * second[label] for label in first)
    return _kappa(equal, len(pairs), by_chance, len(pairs) ** 2)


def fleiss_kappa(labels: Sequence[Sequence[str]]) -> float | None:
    """Fleiss' kappa of n labellers, given the n labels of each face (n the same, at least 2). None
    if it is not defined: no face, or only one label in use.

    kappa = (P - P_e) / (1 - P_e): P the mean over the faces of the share of agreeing pairs of
    labellers, P_e the sum of the squared shares of the labels (J. L. Fleiss, "Measuring nominal
    scale agreement among many raters", Psychological Bulletin 76, 1971, p. 378-382).
    """
    total = Counter(label for face in labels for label in face)
    by_chance = sum(number**2 for number in total.values())
    agreeing = sum(number * (number - 1) for face in labels for number in Counter(face).values())
    pairs = sum(len(face) * (len(face) - 1) for face in labels)
    return _kappa(agreeing, pairs, by_chance, total.total() ** 2)


def _kappa(equal: int, of: int, equal_by_chance: int, of_chance: int) -> float | None:
    """From counts of what is equal, seen and by chance, of so many each."""
    if equal_by_chance == of_chance:  # also if there is nothing at all
        return None
    by_chance = Fraction(equal_by_chance, of_chance)
    return float((Fraction(equal, of) - by_chance) / (1 - by_chance))


def agreement_rows(votes: Votes) -> list[tuple[str, str, str]]:
    """Who, how many faces, kappa: each labeller, each pair (Cohen), then, of three or more, all
    (Fleiss), each on the faces that all of them have labelled."""
    names = sorted(votes)
    rows = [(name, str(len(votes[name])), "") for name in names]
    for a, b in combinations(names, 2):
        pairs = [(label, votes[b][face]) for face, label in votes[a].items() if face in votes[b]]
        rows.append((f"{a}, {b} (Cohen)", str(len(pairs)), _text(cohen_kappa(pairs))))
    if len(names) > 2:
        shared = set.intersection(*(set(votes[name]) for name in names))
        labels = [[votes[name][face] for name in names] for face in shared]
        rows.append(("all (Fleiss)", str(len(labels)), _text(fleiss_kappa(labels))))
    return rows


def _text(kappa: float | None) -> str:
    return "-" if kappa is None else f"{kappa:.2f}"
