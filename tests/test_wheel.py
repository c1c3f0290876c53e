"""The wheel works anywhere: in an empty environment, from a folder without a checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.photographs import SAMPLES
from tests.scripted_server import Reply, ScriptedServer
from worker.config import PROJECT

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    words = ["wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", str(folder)]
    built = subprocess.run([*PIP, *words, str(PROJECT)], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script in an environment that has the wheel and sees this one's packages."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    python = folder / "bin" / "python"
    words = ["--python", str(python), "install", "--no-deps", "--no-index", "-q", str(wheel)]
    installed = subprocess.run([*PIP, *words], capture_output=True, text=True)
    assert installed.returncode == 0, installed.stderr
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin" / "emotion-worker"


def run(program: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(program), *words]
    return subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True)


def test_it_has_the_networks_that_a_worker_needs_and_its_types(wheel: Path) -> None:
    names = set(ZipFile(wheel).namelist())
    weights = {name for name in names if name.endswith(".onnx")}
    shipped = ("emotion_net", "emotion_net_small", "face_net")
    assert weights == {f"worker/weights/{name}.onnx" for name in shipped}
    assert "worker/py.typed" in names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "examples"))]


def test_it_analyses_a_picture_without_a_checkout(program: Path, tmp_path: Path) -> None:
    (tmp_path / "astronaut.jpg").write_bytes(SAMPLES["astronaut.jpg"])
    done = run(program, tmp_path, "analyze", "astronaut.jpg", "--json")
    assert done.returncode == 0, done.stderr
    [face] = json.loads(done.stdout)["faces"]
    assert "happiness" in face


def test_it_drains_a_server_without_a_checkout(program: Path, tmp_path: Path) -> None:
    picture = Reply(body=SAMPLES["astronaut_small.jpg"], headers={"Content-Type": "image/jpeg"})
    with ScriptedServer() as server:
        server.script("/image", picture, Reply(204))
        server.script("/threshold", Reply(body=b"0.3"))
        small = "classification.weights=emotion_net_small"
        done = run(program, tmp_path, "once", "--url", server.url, "--set", small)
    assert done.returncode == 0, done.stderr
    [record] = json.loads((tmp_path / "results.json").read_text())["images"].values()
    assert (len(record["faces"]), record["network"]) == (1, "emotion_net_small")
