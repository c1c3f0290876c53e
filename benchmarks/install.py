"""What `pip install .` brings, without extras: megabytes on disk, and that there is no torch.

Makes an empty virtual environment in a temporary folder and installs this checkout into it; needs
pip's usual access to packages. Fails (exit code 1) if torch or onnx is among them.

    python benchmarks/install.py [--json OUT]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from worker.files import PROJECT

ONLY_TO_TRAIN = {"torch", "onnx"}


def megabytes(folder: Path) -> float:
    """Of all files in it, as `du` counts them: a file that is linked twice once."""
    sizes = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        sizes[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(sizes.values()) / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description="what `pip install .` brings")
    parser.add_argument("--json", type=Path, metavar="OUT")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        venv.create(place, with_pip=True)
        python, empty = place / "bin" / "python", megabytes(place)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", str(PROJECT)], check=True)
        listed = subprocess.run([*pip, "list", "--format=json"], check=True, capture_output=True)
        packages = {each["name"].lower() for each in json.loads(listed.stdout)}
        installed = megabytes(place) - empty
        largest = {
            path.name: round(size)
            for path in sorted(place.glob("lib/python*/site-packages/*"))
            if path.is_dir() and (size := megabytes(path)) >= 10
        }
    unwanted = sorted(packages & ONLY_TO_TRAIN)
    figures = {"installed_mb": round(installed), "packages": len(packages), "unwanted": unwanted}
    print(json.dumps({**figures, "largest_mb": largest}, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures) + "\n")
    return 1 if unwanted else 0


if __name__ == "__main__":
    sys.exit(main())
