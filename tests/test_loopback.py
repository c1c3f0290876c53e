"""The servers that a person starts on the own machine are for that machine alone."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from worker.config import PROJECT

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs all of 127.0.0.0/8 to be loopback"
)


@pytest.mark.parametrize("command", ["demo-server", "label"])
def test_it_listens_at_127_0_0_1_and_nowhere_else(tmp_path: Path, command: str) -> None:
    Image.new("L", (48, 48)).save(tmp_path / "face.png")
    words = [sys.executable, PROJECT / "run_worker.py", command, tmp_path, "--port", "0"]
    process = subprocess.Popen([*map(str, words)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert said is not None
        port = int(said[1])
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
        # A socket that is bound to every address would answer here, too.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=10)
    finally:
        process.terminate()
        process.communicate(timeout=30)
