"""See `__init__.py` beside this file."""

import io
import os
import signal
import time
from pathlib import Path
from typing import Any

from PIL import Image

_open = Image.open


def _harmful(file: Any, *arguments: Any, **named: Any) -> Image.Image:
    said = file.getvalue() if isinstance(file, io.BytesIO) else b""
    if said.startswith(b"this image kills"):
        os.kill(os.getpid(), signal.SIGKILL)
    if said.startswith(b"this image stops"):
        os.kill(os.getpid(), signal.SIGSTOP)
    if said.startswith(b"this image waits for "):
        signs = said.decode().removeprefix("this image waits for ")
        Path(f"{signs}.begun").touch()
        while not Path(f"{signs}.go").exists():
            time.sleep(0.01)
        file = io.BytesIO()
        Image.new("L", (32, 32)).save(file, "PNG")
        file.seek(0)
    return _open(file, *arguments, **named)


if "ENDS_WHILE_LOADING" in os.environ:
    os.kill(os.getpid(), signal.SIGKILL)
Image.open = _harmful  # type: ignore[assignment]
