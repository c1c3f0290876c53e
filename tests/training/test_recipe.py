"""weights/recipe.sh: its commands are run as it gives them, on a toy data set."""

import json
import os
import subprocess
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from tests.training.tensors_only import tensors_only
from tests.training.toy_faces import write_toy_data
from worker.analysis.classification import Classifier
from worker.analysis.weights_file import read_weights
from worker.cli import main
from worker.config import PROJECT
from worker.training.networks.emotion_net import MEMBERS

RECIPE = PROJECT / "weights" / "recipe.sh"
TEACHERS = ["teacher_1", "teacher_2", "teacher_3", "teacher_4"]
PUPILS = ["small_first", "emotion_net_small", "emotion_net", "custom_net", "vgg_net"]
# Stands for Python in the recipe: notes its arguments, and does nothing.
NOTES = """#!/usr/bin/env python3
import json, os, sys
with open(os.environ["NOTED"], "a") as noted:
    noted.write(json.dumps(sys.argv[1:]) + "\\n")
"""
# Later flags win: quick ones for what takes hours.
QUICK = ["--epochs", "1", "--batch-size", "8", "--views", "2", "--device", "cpu", "--threads", "1"]
TINY = ["--sizes", "channels=8,8", "blocks=1,1", "attention=no"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "toy faces").mkdir()
    return write_toy_data(tmp_path / "toy faces")


def commands_of(data: Path, out: Path, *words: str) -> list[list[str]]:
    """The arguments of each call of Python that the recipe makes."""
    python, noted = out.parent / "python", out.parent / "noted"
    python.write_text(NOTES)
    python.chmod(0o755)
    noted.write_text("")
    environment = {**os.environ, "PYTHON": str(python), "NOTED": str(noted)}
    subprocess.run([RECIPE, data, out, *words], env=environment, check=True, timeout=60)
    return [json.loads(line) for line in noted.read_text().splitlines()]


def output_of(command: Sequence[str]) -> str:
    return Path(command[list(command).index("--output") + 1]).stem


@pytest.mark.timeout(600)  # a bound on a hang: nine trainings, however busy the machine
def test_the_whole_chain_runs_from_teachers_over_views_to_pupils(
    data: Path, tmp_path: Path
) -> None:
    commands = commands_of(data, tmp_path / "out")
    assert [output_of(each) for each in commands] == [*TEACHERS, "emotion_net_wide", *PUPILS]
    for program, *words in commands:
        assert Path(program).samefile(PROJECT / "run_worker.py")
        network = words[words.index("--network") + 1]
        quick = QUICK if "--views" in words else [*QUICK, "--views", "0"]
        # Begun with what another command of the chain wrote, it has the sizes of that.
        tiny = TINY if network in MEMBERS and "--init" not in words else []
        side = ["--side", "16"] if network == "vgg_net" else []
        # One file is whole, as the others would be: a kind that test_export has not.
        with nullcontext() if network == "vgg_net" else tensors_only():
            assert main([*words, *quick, *side, *tiny]) == 0
    made = sorted(path.stem for path in (tmp_path / "out").glob("*.onnx"))
    assert made == sorted([*TEACHERS, "emotion_net_wide", *PUPILS])
    crops = np.random.default_rng(0).integers(0, 256, (3, 16, 16)).astype(np.uint8)
    assert Classifier(tmp_path / "out" / "vgg_net.onnx").classify(crops).shape == (3, 8)
    pupil = read_weights(tmp_path / "out" / "emotion_net_small.onnx")[1]
    assert all(f"{name}.onnx" in pupil.recipe for name in TEACHERS)
    assert len(list((tmp_path / "out").glob("views-*"))) == 1  # one for all pupils


def test_what_is_there_is_not_made_anew(data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in (*TEACHERS[:2], "emotion_net"):
        (tmp_path / "out" / f"{name}.onnx").touch()
    commands = commands_of(data, tmp_path / "out")
    assert [output_of(each) for each in commands] == [
        *TEACHERS[2:],
        "emotion_net_wide",
        *("small_first", "emotion_net_small", "custom_net", "vgg_net"),
    ]


def test_without_a_gpu_it_begins_with_the_shipped_teacher(data: Path, tmp_path: Path) -> None:
    commands = commands_of(data, tmp_path / "out", "pupils")
    assert [output_of(each) for each in commands] == PUPILS
    for each in commands:
        teacher = Path(each[each.index("--teacher") + 1])
        assert teacher.samefile(PROJECT / "weights" / "emotion_net_wide.onnx")


def test_a_folder_with_spaces_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    output = tmp_path / "two words"
    command = ["sh", str(RECIPE), str(tmp_path), str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "must have no spaces" in done.stderr
    assert not output.exists()
