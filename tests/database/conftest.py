"""Places for the files of the tests."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.json"


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for examples of which each makes its own below it."""
    folder = tmp_path_factory.mktemp("examples")
    yield folder
    shutil.rmtree(folder)
