"""The record of one image."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import ImageLost
from worker.record import EMOTIONS, Analysis, Box, Face, Record, build_record, face_entry

BOX = Box(71, 48, 154, 131)


def face(**probabilities: float) -> Face:
    return Face(BOX, {name: probabilities.get(name, 0.0) for name in EMOTIONS}, 0.9912)


def record_of(outcome: Analysis | ImageLost, threshold: float | None = 0.2) -> Record:
    return build_record(
        file_name="angry.jpeg",
        threshold=threshold,
        outcome=outcome,
        task_id="t1",
        worker="w",
        network="custom_net",
        now=lambda: "2026-11-24T12:00:00.123Z",
    )


def test_a_record_is_what_readers_of_the_file_know_with_the_first_three_keys_in_order() -> None:
    record = record_of(Analysis(225, 225, (face(anger=0.9412, neutral=0.05),), 31.84))
    assert json.dumps(record) == json.dumps(
        {
            "file_name": "angry.jpeg",
            "threshold": 0.2,
            "faces": [
                {
                    "face_id": 1,
                    "anger": 0.94,
                    "bbox": ["71", "48", "154", "131"],
                    "confidence": 0.99,
                }
            ],
            "task_id": "t1",
            "processed_at": "2026-11-24T12:00:00.123Z",
            "worker": "w",
            "network": "custom_net",
            "image_size": [225, 225],
            "elapsed_ms": 31.8,
        }
    )


def test_a_record_says_what_was_expected_where_that_changed_its_probabilities() -> None:
    record = record_of(Analysis(10, 10, (face(anger=0.9),), 1.0, "anger 0.5"))
    assert record["expected"] == "anger 0.5"
    assert "expected" not in record_of(Analysis(10, 10, (face(anger=0.9),), 1.0))


def test_a_picture_without_a_face_is_known_to_be_done() -> None:
    assert record_of(Analysis(10, 10, (), 1.0))["faces"] == []


def test_an_image_that_is_lost_has_an_error_and_no_face() -> None:
    record = record_of(ImageLost("not_an_image", "its 3 bytes do not decode"), threshold=None)
    assert record["faces"] == []
    assert record["error"] == {"type": "not_an_image", "message": "its 3 bytes do not decode"}
    assert list(record)[:3] == ["file_name", "threshold", "faces"]


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_every_emotion_can_be_reported(emotion: str) -> None:
    assert face_entry(1, face(**{emotion: 0.6}), 0.5)[emotion] == 0.6


@pytest.mark.parametrize(
    ("probability", "threshold", "stored"),
    [
        (0.20, 0.2, 0.2),
        (0.195, 0.2, 0.2),
        (0.1949, 0.2, None),
        (0.204, 0.204, None),
        (1.0, 1.0, 1.0),
        (0.001, 0.0, 0.0),
    ],
)
def test_the_rounded_probability_is_what_must_reach_the_threshold(
    probability: float, threshold: float, stored: float | None
) -> None:
    assert face_entry(1, face(fear=probability), threshold).get("fear") == stored


@given(
    st.lists(st.floats(0, 1), min_size=8, max_size=8),
    st.floats(0, 1),
    st.integers(1, 10_000),
)
def test_a_face_holds_its_id_its_box_and_just_the_classes_that_reach_the_threshold(
    values: list[float], threshold: float, face_id: int
) -> None:
    probabilities = dict(zip(EMOTIONS, values, strict=True))
    entry = face_entry(face_id, Face(BOX, probabilities), threshold)
    assert next(iter(entry)) == "face_id"
    assert list(entry)[-2:] == ["bbox", "confidence"]
    assert entry["face_id"] == face_id
    named = {name: value for name, value in entry.items() if name in EMOTIONS}
    assert named == {n: round(p, 2) for n, p in probabilities.items() if round(p, 2) >= threshold}
    assert json.loads(json.dumps(entry)) == entry
