"""What tests of training share."""

from collections.abc import Iterator

import pytest

from tests.training.tensors_only import tensors_only
from worker.training import evaluation


@pytest.fixture
def no_graph() -> Iterator[None]:
    """See `tensors_only`."""
    with tensors_only():
        yield


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency is measured all the same, less exactly."""
    quick = {name: (faces, 2) for name, (faces, _) in evaluation.LATENCIES.items()}
    monkeypatch.setattr(evaluation, "LATENCIES", quick)
    monkeypatch.setattr(evaluation, "WARM_UP", 1)
