"""What an append to the JSON file costs at 100 and at 1,000,000 documents, how that compares with
stock TinyDB, and what it takes to open a large file.

    python benchmarks/append.py --json append.json

All appends are durable (one fsync each), alternately to the one file and the other, and compared by
their medians. A file is opened in a process of its own: first without its sidecar, so that all of
it is read (`open_1m_s`, `open_1m_mb`: peak memory that this adds), then with it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tinydb import TinyDB

from worker.database import Database

STOCK_INSERTS = 7
OPEN = """
import resource, sys, time
from pathlib import Path
from worker.database import Database

def peak():  # MB; what Linux's getrusage says includes the parent process
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6

before, start = peak(), time.perf_counter()
Database(Path(sys.argv[1]))
print(time.perf_counter() - start, peak() - before)
"""


def record(number: int) -> dict[str, Any]:
    """A record of about 330 bytes, as the worker stores it."""
    return {
        "file_name": f"photo-{number:07d}.jpeg",
        "threshold": 0.2,
        "faces": [{"face_id": 1, "anger": 0.94, "bbox": ["71", "48", "154", "131"]}],
        "task_id": str(uuid.uuid4()),
        "processed_at": "2026-11-24T12:00:00.123Z",
        "worker": "benchmark",
        "network": "custom_net",
        "image_size": [225, 225],
        "elapsed_ms": 31.8,
    }


def build(path: Path, documents: int) -> Path:
    """Write a file of so many documents at once, as TinyDB would leave it."""
    with path.open("w") as file:
        file.write('{"images": {')
        for number in range(1, documents + 1):
            separator = ", " if number > 1 else ""
            file.write(f'{separator}"{number}": {json.dumps(record(number))}')
        file.write("}}")
    return path


def alternate(count: int, *actions: Callable[[], object]) -> list[float]:
    """The median seconds of each action, done ``count`` times in turn."""
    seconds: list[list[float]] = [[] for _ in actions]
    for _ in range(count):
        for action, taken in zip(actions, seconds, strict=True):
            start = time.perf_counter()
            action()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in seconds]


def open_apart(path: Path) -> tuple[float, float]:
    """Seconds and megabytes that opening takes in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(path)], check=True, capture_output=True, text=True
    )
    seconds, megabytes = map(float, done.stdout.split())
    return seconds, megabytes


def measure(folder: Path, documents: int, appends: int, table: Table) -> dict[str, float]:
    """All figures, by their names in the JSON output; also fills the table for a person."""
    large = build(folder / "large.json", documents)
    cold_seconds, cold_megabytes = open_apart(large)
    warm_seconds, warm_megabytes = open_apart(large)
    numbers = iter(range(documents, 10 * documents))
    with (
        Database(build(folder / "small.json", 100)) as small_database,
        Database(large) as large_database,
    ):
        at_100, at_large = alternate(
            appends,
            lambda: small_database.append(record(next(numbers))),
            lambda: large_database.append(record(next(numbers))),
        )
    stock = TinyDB(build(folder / "stock.json", 10_000)).table("images")
    with Database(build(folder / "ours.json", 10_000)) as database:
        at_stock, at_10k = alternate(
            STOCK_INSERTS,
            lambda: stock.insert(record(next(numbers))),
            lambda: database.append(record(next(numbers))),
        )
    for what, value in (
        ("append at 100 documents", f"{at_100 * 1e3:.2f} ms"),
        (f"append at {documents:,} documents", f"{at_large * 1e3:.2f} ms"),
        ("append at 10,000 documents", f"{at_10k * 1e3:.2f} ms"),
        ("stock TinyDB's insert at 10,000 documents", f"{at_stock * 1e3:.1f} ms"),
        (f"size of {documents:,} documents", f"{large.stat().st_size / 1e6:.0f} MB"),
        ("to open it without its index", f"{cold_seconds:.2f} s, {cold_megabytes:.0f} MB"),
        ("to open it with its index", f"{warm_seconds * 1e3:.1f} ms, {warm_megabytes:.0f} MB"),
    ):
        table.add_row(what, value)
    return {
        "ratio_1m_100": round(at_large / at_100, 3),
        "times_stock_10k": round(at_stock / at_10k, 1),
        "open_1m_s": round(cold_seconds, 3),
        "open_1m_mb": round(cold_megabytes, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--documents", type=int, default=1_000_000, help="of the large file (default: 1,000,000)"
    )
    parser.add_argument(
        "--appends", type=int, default=1000, help="to each file, of which the median counts"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(), help="on the disk to measure; default: this one"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to this file")
    options = parser.parse_args()
    table = Table("what", "measured", title="Appending to a TinyDB file")
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="append-") as folder:
        figures = measure(Path(folder), options.documents, options.appends, table)
    for name, figure in figures.items():
        table.add_row(name, str(figure))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
