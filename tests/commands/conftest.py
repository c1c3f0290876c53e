"""A server and a folder of pictures for the commands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.photographs import SAMPLES
from tests.scripted_server import Reply, ScriptedServer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """One that has a threshold, takes results, and has no image."""
    with ScriptedServer() as scripted:
        scripted.script("/threshold", Reply(body=b"0.2"))
        scripted.script("/image", Reply(204))
        scripted.script("/results", Reply(201))
        yield scripted


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a face, a cup of coffee in a folder below, and a text."""
    folder = tmp_path / "pictures"
    (folder / "deeper").mkdir(parents=True)
    (folder / "astronaut.jpg").write_bytes(SAMPLES["astronaut.jpg"])
    (folder / "deeper" / "coffee.jpg").write_bytes(SAMPLES["coffee.jpg"])
    (folder / "notes.txt").write_text("no picture")
    return folder
