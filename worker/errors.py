"""Every error of the worker, grouped by what is done about it.

Whoever raises one writes the message for a person: what went wrong, which key or file, what to do.
"""

import shlex
import sys

# The packages that only some commands import, by the extra of pyproject.toml that brings them.
EXTRAS = {
    "report": ("jinja2", "matplotlib"),
    "demo": ("flask", "skimage"),
    "train": ("onnx", "onnx_ir", "onnxscript", "safetensors", "scipy", "torch"),
    "redis": ("redis",),
    "celery": ("billiard", "celery"),
}


class WorkerError(Exception):
    """Root of the tree. Its text is shown to the user as it stands, without a traceback.

    ``exit_code``: that of a command which this error ends.
    """

    exit_code = 1


class RetryLater(WorkerError):
    """Raised when waiting can help: the server, the network or the disk is at fault.

    ``wait`` is the number of seconds that the server asked for, or None for the usual back-off.
    ``keeps``: an image is kept in hand for it, and taken up again.
    """

    exit_code = 3
    keeps = False

    def __init__(self, message: str, *, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class ServerUnreachable(RetryLater):
    """Raised when no HTTP answer came at all: refused, reset, time-out, DNS, TLS."""


class ServerBusy(RetryLater):
    """Raised when the server says that it takes no requests at present (429, 503), whichever."""


class DiskRefuses(RetryLater):
    """Raised when the disk does not take a record: full, over quota, failing. Nothing is lost."""

    exit_code = 1


class NoAnalyst(RetryLater):
    """Raised when no process can be started for the analysis: memory or open files run short."""

    exit_code = 1


class ServerRefuses(RetryLater):
    """Raised when the server answers that we are wrong (401, 403, 404, 3xx): check worker.ini.

    The daemon stays up, since a token or a path can be mended on the server's side as well.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
        self.exit_code = 4 if status in (401, 403) else 2


class ImageLost(WorkerError):
    """Raised when this image can never be analysed. It becomes an error record; the next goes on.

    ``kind`` is the record's ``error.type``, one word that a program can compare.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Stop(WorkerError):
    """Raised when going on makes no sense until a person acts; the process ends."""


class UsageError(Stop):
    """Raised for a wrong flag, key, value, weights file or data set: exit code 2."""

    exit_code = 2


class DatabaseUnusable(Stop):
    """Raised when the database is locked by another worker, damaged or of another program."""

    exit_code = 5


def package_missing(error: ModuleNotFoundError) -> UsageError:
    """What to say of an import that failed: the one extra that brings it, for this interpreter."""
    package = (error.name or "").partition(".")[0]
    extra = next((f"[{name}]" for name, brings in EXTRAS.items() if package in brings), "")
    return UsageError(
        f"the package {package} is missing; in the project's folder run: "
        f"{shlex.quote(sys.executable)} -m pip install -e '.{extra}'"
    )
