"""How often emotions are to be expected: what the text means, and what it does to probabilities."""

import pytest

from worker.errors import UsageError
from worker.expected import class_weights, parse_expected
from worker.record import EMOTIONS

SHARES = {"neutral": 0.5, "happiness": 0.4, "anger": 0.1}


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("as trained", None),
        ("even", {}),
        ("neutral 0.5, happiness 0.2", {"neutral": 0.5, "happiness": 0.2}),
        (" fear  1 ", {"fear": 1.0}),
        (", ".join(f"{name} 0.125" for name in EMOTIONS), dict.fromkeys(EMOTIONS, 0.125)),
    ],
)
def test_the_text_names_emotions_and_their_fractions(
    text: str, means: dict[str, float] | None
) -> None:
    assert parse_expected(text) == means


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("evne", "must be as trained, even, or emotions .*did you mean even"),
        ("happy 0.2", "did you mean happiness"),
        ("fear 0.1, fear 0.2", "each once"),
        ("fear", "fear must be a number from 0 to 1"),
        ("fear lots", "fear must be a number"),
        ("fear 20", "number from 0 to 1; did you mean 0.2"),
        ("fear nan", "fear must be a number from 0 to 1"),
        ("neutral 0.8, fear 0.3", "its fractions make 1.1, more than 1"),
        ("neutral 0.8,", "each once"),
    ],
)
def test_a_text_that_cannot_be_meant_is_refused_with_a_reason(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_expected(text)


@pytest.mark.parametrize(
    ("expected", "weights"),
    [
        # Each a third: 1/3 ÷ 0.5, 1/3 ÷ 0.4, 1/3 ÷ 0.1.
        ({}, [2 / 3, 5 / 6, 10 / 3]),
        # What is not named shares the rest: 0.25 each.
        ({"anger": 0.5}, [0.5, 0.625, 5.0]),
        ({"neutral": 0.5, "happiness": 0.5}, [1.0, 1.25, 0.0]),
        # As they were trained: nothing changes.
        (SHARES, [1.0, 1.0, 1.0]),
    ],
)
def test_a_weight_is_expected_over_trained(
    expected: dict[str, float], weights: list[float]
) -> None:
    assert class_weights(expected, list(SHARES), SHARES) == pytest.approx(weights)


def test_a_class_that_was_never_trained_stays_at_nothing() -> None:
    assert class_weights({}, ["neutral", "fear"], {"neutral": 1.0, "fear": 0.0}) == [0.5, 0.0]


def test_a_file_without_shares_is_refused_unless_all_stays_as_it_was_trained() -> None:
    with pytest.raises(UsageError, match="does not say how often each emotion"):
        class_weights({}, list(SHARES), None)
    assert class_weights(None, list(SHARES), None) == [1.0, 1.0, 1.0]
