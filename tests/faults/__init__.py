"""Images that do harm: what a crash or a hang in a decoder would do, done to a child process.

With `PYTHONPATH` set to this folder, `sitecustomize.py` is read by each Python that is started, and
an image of these bytes does what it says.
"""

from pathlib import Path

FOLDER = str(Path(__file__).parent)
KILLS = b"this image kills who decodes it"
STOPS = b"this image stops who decodes it"


def waits(signs: Path) -> bytes:
    """An image whose decoding makes the file ``signs``.begun, and goes on once ``signs``.go is
    there: as a black picture of 32 by 32 pixels."""
    return f"this image waits for {signs}".encode()


def begun(signs: Path) -> Path:
    return signs.with_name(f"{signs.name}.begun")


def go(signs: Path) -> None:
    signs.with_name(f"{signs.name}.go").touch()
