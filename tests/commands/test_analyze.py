"""`analyze`: images without a server."""

import json
from pathlib import Path

from tinydb import TinyDB

from tests.processes import Call


def test_analyze_prints_stores_and_draws_what_it_finds(
    call: Call, tmp_path: Path, pictures: Path
) -> None:
    options = ("--annotated", "drawn", "--database", "r.json", "--threshold", "0.3")
    done = call("analyze", str(pictures), *options)
    assert done.returncode == 0
    first, second = (line.split("\t") for line in done.stdout.splitlines())
    assert first[1].endswith("astronaut.jpg")
    assert first[3:] == ["1", first[4]]
    assert first[4].startswith("happiness ")
    assert second[1].endswith("coffee.jpg")
    assert second[3:] == ["-", "no face"]
    assert (tmp_path / "drawn" / "astronaut.jpg").read_bytes()[:2] == b"\xff\xd8"
    assert (tmp_path / "drawn" / "deeper" / "coffee.jpg").exists()
    again = call("analyze", str(pictures), "--database", "r.json", "--json")
    printed = [json.loads(line) for line in again.stdout.splitlines()]
    stored = [dict(document) for document in TinyDB(tmp_path / "r.json").table("images")]
    assert len(stored) == 4
    assert stored[2:] == printed
    assert "task_id" not in printed[0]


def test_analyze_goes_on_after_a_file_that_is_no_image(call: Call, pictures: Path) -> None:
    done = call("analyze", str(pictures / "notes.txt"), str(pictures))
    assert done.returncode == 1
    assert "1 of 3 could not be analysed" in done.stderr
    assert "error: its 10 bytes do not decode" in done.stdout
    assert "happiness" in done.stdout
