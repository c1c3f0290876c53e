"""What is not installed is missed by no command that goes without it, else named with its extra."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.photographs import SAMPLES
from tests.processes import LIMIT
from worker.config import PROJECT
from worker.errors import EXTRAS

# How the packages that we import are called in the registry.
CALLED = {"skimage": "scikit-image", "onnx_ir": "onnx-ir", "billiard": "celery"}
WITHOUT = """
import sys
sys.modules.update(dict.fromkeys({missing!r}))
from worker.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run_without(
    missing: Iterable[str], folder: Path, *words: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in which importing these packages fails, as if they were not installed."""
    script = WITHOUT.format(missing=[*missing])
    return subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=folder,
        env={"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces in the FER+ layout."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "FER2013Test").mkdir()
    lines = []
    for number in range(8):
        noise = np.random.default_rng(number).integers(0, 256, (48, 48)).astype(np.uint8)
        cv2.imwrite(str(folder / "FER2013Test" / f"{number}.png"), noise)
        votes = [0] * 10
        votes[number] = 10
        lines.append(f'{number}.png,"(0, 0, 48, 48)",{",".join(map(str, votes))}\n')
    (folder / "FER2013Test" / "label.csv").write_text("".join(lines))
    (folder / "photograph.jpg").write_bytes(SAMPLES["astronaut_small.jpg"])
    return folder


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("evaluate emotions --data {data} --weights {small}", "8 faces"),
        ("compare --data {data} --weights {small} {small}", "emotion_net_small"),
        ("crop {data}/photograph.jpg --output faces", "1 new face"),
        ("analyze {data}/photograph.jpg", "photograph.jpg"),
    ],
)
def test_measuring_cropping_and_analysing_go_without_any_extra(
    words: str, says: str, data: Path, tmp_path: Path
) -> None:
    small = PROJECT / "weights" / "emotion_net_small.onnx"
    every = [package for packages in EXTRAS.values() for package in packages]
    done = run_without(every, tmp_path, *words.format(data=data, small=small).split())
    assert done.returncode == 0, done.stderr
    assert says in done.stdout


def test_labelling_goes_without_torch_and_onnx(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    done = run_without(EXTRAS["train"], tmp_path, "label", "none")
    assert "none" in done.stderr
    assert "missing" not in done.stderr


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("report", "report --database {data}/none.json"),
        ("demo", "demo-server {data}"),
        ("train", "train --data {data} --output a.onnx"),
        ("train", "export old.safetensors"),
    ],
)
def test_a_missing_package_is_named_with_the_one_extra_that_brings_it(
    extra: str, words: str, data: Path, tmp_path: Path
) -> None:
    done = run_without(EXTRAS[extra], tmp_path, *words.format(data=data).split())
    assert done.returncode == 2
    assert re.search(rf"the package \w+ is missing; .*{re.escape(sys.executable)} -m", done.stderr)
    assert done.stderr.rstrip().endswith(f"-m pip install -e '.[{extra}]'")


def test_a_missing_package_that_every_command_needs_is_of_no_extra(tmp_path: Path) -> None:
    done = run_without(["onnxruntime"], tmp_path, "evaluate", "emotions", "--data", "nowhere")
    assert done.returncode == 2
    assert done.stderr.rstrip().endswith("-m pip install -e '.'")


def test_the_extras_bring_what_the_messages_say() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    for extra, packages in EXTRAS.items():
        brought = " ".join(optional[extra])
        for package in packages:
            assert re.search(rf"\b{CALLED.get(package, package)}\b", brought), package
            assert not any(re.match(rf"{package}\W", line) for line in project["dependencies"])
    assert set(EXTRAS) <= {*re.findall(r"\w+", optional["dev"][0])}
