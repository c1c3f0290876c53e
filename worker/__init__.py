"""The emotion worker: pulls images from a server, finds faces and names their emotions.

As a library: `Analyzer` finds the faces of a picture; `Face` and `Box` are what it gives, EMOTIONS
the names. A picture that cannot be analysed raises `ImageLost`; all errors are `WorkerError`.
"""

from typing import TYPE_CHECKING, Any

from worker.errors import ImageLost, WorkerError
from worker.record import EMOTIONS, Box, Face

if TYPE_CHECKING:
    from worker.analysis.library import Analyzer

__all__ = ["EMOTIONS", "Analyzer", "Box", "Face", "ImageLost", "WorkerError"]
__version__ = "0.2.0"
PROGRAM = "emotion-worker"  # as messages and examples call it


def __getattr__(name: str) -> Any:
    """`Analyzer`, imported when it is used (PEP 562): `--help` must not wait for OpenCV."""
    if name != "Analyzer":
        raise AttributeError(f"module 'worker' has no attribute {name!r}")
    from worker.analysis.library import Analyzer

    return Analyzer
