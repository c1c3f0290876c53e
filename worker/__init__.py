"""The emotion worker: pulls images from a server, finds faces and names their emotions.

As a library: `Analyzer` finds the faces of a picture; `Face` and `Box` are what it gives, EMOTIONS
the names. A picture that cannot be analysed raises `ImageLost`; all errors are `WorkerError`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.analysis.library import Analyzer as Analyzer
    from worker.errors import ImageLost as ImageLost
    from worker.errors import WorkerError as WorkerError
    from worker.record import EMOTIONS as EMOTIONS
    from worker.record import Box as Box
    from worker.record import Face as Face

__version__ = "0.2.0"
PROGRAM = "emotion-worker"  # as messages and examples call it

# OpenCV and the networks are loaded when they are used: `--help` must not wait for them.
_LIBRARY = {
    "Analyzer": "worker.analysis.library",
    "Box": "worker.record",
    "EMOTIONS": "worker.record",
    "Face": "worker.record",
    "ImageLost": "worker.errors",
    "WorkerError": "worker.errors",
}


def __getattr__(name: str) -> Any:
    """A name of the library, imported now (PEP 562)."""
    if name not in _LIBRARY:
        raise AttributeError(f"module 'worker' has no attribute {name!r}")
    return getattr(import_module(_LIBRARY[name]), name)
