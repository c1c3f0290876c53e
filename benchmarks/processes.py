"""What a daemon and all that it started need together; Linux only."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def family(pid: int) -> Iterator[Path]:
    """The process and its descendants, in /proc."""
    own = Path("/proc", str(pid))
    yield own
    for task in (own / "task").iterdir():
        children = ""
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended meanwhile
            children = (task / "children").read_text()
        for child in children.split():
            yield from family(int(child))


def memory_mb(pid: int, what: str = "VmRSS") -> float:
    """Resident memory of all of them; what they share counts for each. ``what``: or VmHWM, the
    most that each ever had."""
    texts = [(each / "status").read_text() for each in family(pid)]
    return sum(int(text.split(f"{what}:")[1].split()[0]) for text in texts) / 1e3


def cpu_seconds(pid: int) -> float:
    """CPU time that they have used so far."""
    texts = [(each / "stat").read_text().rpartition(")")[2].split() for each in family(pid)]
    return sum(int(text[11]) + int(text[12]) for text in texts) / os.sysconf("SC_CLK_TCK")
