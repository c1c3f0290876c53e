"""The database under `kill -9` and a full disk, in processes of their own.

`KILLS=500 pytest tests/test_database_crash.py` is the long version.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tinydb import TinyDB

from tests.database.helpers import first_owed
from worker.database import Database, Rotation, read_records, verify

KILLS = int(os.environ.get("KILLS", "16"))
A_FILE = 8  # kills, after which a new file is begun, since stock TinyDB reads all of it each time

WRITER = """
import random, sys
from pathlib import Path
from worker.database import Database, Rotation
path, first, seed, most = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
draw = random.Random(seed)
with Database(path, owe=True, rotation=Rotation(max_bytes=most or None)) as database:
    for number in range(first, 10**9):
        size = 300 if draw.random() < 0.5 else draw.randrange(1_000_000)
        assert database.append({"task_id": f"t{number}", "text": "x" * size}, lease_id="l")
        print(number, flush=True)
"""


def run_writer(path: Path, first: int, seed: int, most: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(first), str(seed), str(most)],
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
@pytest.mark.timeout(60 + KILLS * 3)
def test_kill_9_at_any_moment_loses_no_acknowledged_record_and_doubles_none(
    tmp_path: Path,
) -> None:
    draw = random.Random(os.environ.get("SEED", "5"))
    torn = 0
    for kill in range(KILLS):
        if kill % A_FILE == 0:
            # Given: a new file; every other one is rotated now and then
            path = tmp_path / str(kill) / "results.json"
            path.parent.mkdir()
            first, most = 0, 2_000_000 * (kill // A_FILE % 2)
        # When: the process is killed after a random time of appending
        writer = run_writer(path, first, kill, most)
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline()]
        time.sleep(draw.uniform(0, 0.15))
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.stdout.read().splitlines(keepends=True)
        writer.wait()
        last = int([line for line in acknowledged if line.endswith("\n")][-1])
        # Then: a reader that comes first sees all acknowledged records
        seen = [record["task_id"] for record in read_records(path)]
        assert seen[: last + 1] == [f"t{number}" for number in range(last + 1)]
        # ... and once one of our commands has opened it, stock TinyDB does as well, each once
        found = verify(path)
        assert found.sound
        assert found.index_agrees
        torn += found.torn_bytes is not None
        family = sorted(path.parent.glob("results.2*.json"))
        stored = [
            document["task_id"]
            for file in [*family, path]
            for document in TinyDB(file).table("images").all()
        ]
        first = len(stored)
        assert first - 1 in (last, last + 1)  # at most the one under way on top
        assert stored == [f"t{number}" for number in range(first)]
        # ... and each is owed
        with Database(path, owe=True) as database:
            assert database.owed_count() == first
    print(f"{KILLS} kills, {torn} torn tails")


FULL = """
import json, resource, sys
from pathlib import Path
from tinydb import TinyDB
from worker.database import Database
from worker.errors import DiskRefuses
from worker.errors import RetryLater

path, limit, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with Database(path, owe=True) as database:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    stored, refused = [], 0
    for number in range(10_000):
        name = f"t{number}"
        try:
            assert database.append({"task_id": name, "text": "x" * size}, lease_id=f"l-{name}")
            stored.append(name)
        except DiskRefuses as error:
            assert isinstance(error, RetryLater)
            message = str(error)
            refused += 1
            # The file is whole while the disk is full ...
            assert [d["task_id"] for d in TinyDB(path, access_mode="r").table("images")] == stored
            if refused == 3:
                break
    assert refused == 3, refused
    # ... and when there is room again, all goes on.
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert not any(database.append({"task_id": name}) for name in stored[-1:])
    assert database.append({"task_id": "after"})
    stored.append("after")
    assert database.owed_count() == len(stored)
    assert [d["task_id"] for d in TinyDB(path).table("images")] == stored
print(json.dumps([stored, message]))
"""


@pytest.mark.skipif(os.name != "posix", reason="RLIMIT_FSIZE is POSIX")
@pytest.mark.parametrize(
    ("limit", "size", "file"),
    [
        (300_000, 0, "results.json.index"),  # the index is full first
        (1_000_000, 30_000, "results.json"),
        (700_001, 699_000, "results.json"),
        (500_000, 600_000, "results.json"),
    ],
)
def test_a_full_disk_is_said_and_waited_for_and_the_file_stays_whole(
    tmp_path: Path, limit: int, size: int, file: str
) -> None:
    path = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path), str(limit), str(size)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    stored, message = json.loads(done.stdout)
    assert message.startswith(f"cannot write {tmp_path / file}:")
    with Database(path, owe=True) as database:
        assert all(map(database.known, stored))
        owed = first_owed(database)
        assert owed is not None
        assert owed.lease_id == f"l-{stored[0]}" or stored == ["after"]
    assert verify(path).index_agrees


STARTED_FULL = """
import resource, sys
from pathlib import Path
from worker.database import Database
from worker.errors import DiskRefuses

path = Path(sys.argv[1])
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), hard))
for _ in range(3):
    try:
        Database(path, owe=True)
    except DiskRefuses as error:
        print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
with Database(path, owe=True) as database:
    database.append({"task_id": "new"})
"""


@pytest.mark.skipif(os.name != "posix", reason="RLIMIT_FSIZE is POSIX")
@pytest.mark.parametrize("room", [0, 10, 5_000])
@pytest.mark.parametrize("there", ["nothing", "file", "torn file"])
def test_starting_on_a_full_disk_can_be_tried_again(tmp_path: Path, room: int, there: str) -> None:
    path = tmp_path / "results.json"
    if there != "nothing":
        path.write_text(json.dumps({"images": {"1": {"task_id": "t1"}}}))
    if there == "torn file":
        path.write_bytes(path.read_bytes()[:-2] + b', "2": {"task')
    command = [sys.executable, "-c", STARTED_FULL, str(path), str(room)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 3
    assert all(line.startswith("cannot write") and line.endswith("; waiting") for line in said)
    stored = [d["task_id"] for d in TinyDB(path).table("images")]
    assert stored == (["new"] if there == "nothing" else ["t1", "new"])
    assert verify(path).index_agrees


def test_a_second_process_is_refused_and_told_which_one_has_the_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    code = f"""
from pathlib import Path
from worker.database import Database
Database(Path({str(path)!r}))
"""
    with Database(path, rotation=Rotation(monthly=True)):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "DatabaseUnusable" in last
    assert f"{path} is in use by another worker (process {os.getpid()})" in last


def test_the_benchmark_writes_its_figures(tmp_path: Path) -> None:
    program = Path(__file__).parents[2] / "benchmarks" / "append.py"
    output = tmp_path / "append.json"
    options = ["--documents", "300", "--appends", "20"]
    options += ["--folder", str(tmp_path), "--json", str(output)]
    subprocess.run([sys.executable, str(program), *options], check=True, capture_output=True)
    figures = json.loads(output.read_text())
    assert list(figures) == ["ratio_1m_100", "times_stock_10k", "open_1m_s", "open_1m_mb"]
    assert all(figure > 0 for figure in figures.values())  # how good is for a quiet machine to say
