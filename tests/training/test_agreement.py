"""Kappa against the figures of published examples."""

import pytest

from worker.training.agreement import agreement_rows, cohen_kappa, fleiss_kappa

# Fleiss 1971's form, the table of the article "Fleiss' kappa" in Wikipedia: ten subjects, 14
# raters, five categories; kappa = 0.210.
TABLE = (
    *((0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1)),
    *((7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7)),
)


def test_fleiss_kappa_of_a_published_table() -> None:
    labels = [[str(c) for c, n in enumerate(row) for _ in range(n)] for row in TABLE]
    assert fleiss_kappa(labels) == pytest.approx(0.210, abs=0.0005)


@pytest.mark.parametrize(
    ("counts", "kappa"),
    [((20, 5, 10, 15), 0.4), ((45, 15, 25, 15), 0.1304), ((25, 35, 5, 35), 0.2593)],
)
def test_cohen_kappa_of_published_tables(counts: tuple[int, ...], kappa: float) -> None:
    answers = [("yes", "yes"), ("yes", "no"), ("no", "yes"), ("no", "no")]
    pairs = [pair for pair, n in zip(answers, counts, strict=True) for _ in range(n)]
    assert cohen_kappa(pairs) == pytest.approx(kappa, abs=0.0001)


def test_full_agreement_is_one_and_what_is_not_defined_is_none() -> None:
    assert cohen_kappa([("a", "a"), ("b", "b")]) == 1
    assert fleiss_kappa([["a"] * 3, ["b"] * 3]) == 1
    assert cohen_kappa([]) is None
    assert cohen_kappa([("a", "a")] * 3) is None
    assert fleiss_kappa([]) is None
    assert fleiss_kappa([["a", "a", "a"]]) is None


def test_people_are_compared_on_the_faces_that_they_share() -> None:
    ann = {"1": "anger", "2": "fear", "3": "fear"}
    votes = {"Ann": ann, "Bob": {"1": "anger", "2": "fear"}}
    each = [("Ann", "3", ""), ("Bob", "2", "")]
    assert agreement_rows(votes) == [*each, ("Ann, Bob (Cohen)", "2", "1.00")]
    three = agreement_rows({**votes, "Cy": {"2": "anger", "1": "anger", "9": "fear"}})
    assert [row[:2] for row in three] == [
        *[("Ann", "3"), ("Bob", "2"), ("Cy", "3")],
        *[("Ann, Bob (Cohen)", "2"), ("Ann, Cy (Cohen)", "2"), ("Bob, Cy (Cohen)", "2")],
        ("all (Fleiss)", "2"),
    ]
