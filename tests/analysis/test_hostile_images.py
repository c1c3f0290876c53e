"""Damaged images, by the hundred, against the pipeline in a process that is watched."""

import json
import subprocess
import sys
from pathlib import Path

from worker.config import PROJECT


def test_damaged_images_neither_end_nor_hold_up_the_worker_nor_fill_its_memory(
    tmp_path: Path,
) -> None:
    program = [PROJECT / "benchmarks" / "fuzz.py", "--files", "300", "--seed", "4"]
    files = ["--keep", tmp_path / "kept", "--json", tmp_path / "figures.json"]
    command = [sys.executable, *map(str, (*program, *files))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    formats = json.loads((tmp_path / "figures.json").read_text())["formats"]
    assert [*formats] == ["JPEG", "PNG", "WEBP", "BMP", "TIFF"]
    for of_kind in formats.values():
        assert sum(of_kind["outcomes"].values()) == 60
        # Neither do all of them fail at the first byte, nor is the damage so small that none does.
        assert of_kind["outcomes"]["analyzed"] >= 3
        assert of_kind["outcomes"]["not_an_image"] >= 10
