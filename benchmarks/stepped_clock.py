"""Run a program under a wall clock that another process sets: `stepped_clock.py OFFSET PROGRAM …`.

OFFSET is a file of one double, the seconds that the clock is off now. What Python asks of the wall
clock (time.time, datetime.now, and so APScheduler, the log and the records) is shifted; monotonic
time and the kernel's file times are not, just as when somebody sets a machine's clock.
"""

import datetime
import mmap
import runpy
import struct
import sys
import time
from pathlib import Path
from typing import Any

_true_time = time.time
_offset: mmap.mmap


def write_offset(file: Path, seconds: float) -> None:
    """Make the file, or step the clock of the program that runs with it."""
    if not file.exists():
        file.write_bytes(bytes(8))
    with file.open("r+b") as opened:
        opened.write(struct.pack("d", seconds))


def _time() -> float:
    return _true_time() + float(struct.unpack("d", _offset[:8])[0])


class _Datetime(datetime.datetime):
    @classmethod
    def now(cls, tz: Any = None) -> "_Datetime":
        return cls.fromtimestamp(_time(), tz)


def main() -> None:
    global _offset
    with Path(sys.argv[1]).open("rb") as file:
        _offset = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)
    time.time = _time
    time.time_ns = lambda: int(_time() * 1e9)
    datetime.datetime = _Datetime  # type: ignore[misc]
    del sys.argv[:2]
    sys.argv.insert(0, program := sys.argv.pop(0))
    sys.path[0] = str(Path(program).parent)
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
