"""More than one machine, in small: the benchmark's own run, with fewer daemons and images.

One daemon is killed (-9), one is stopped, one joins late; each image must be on the server once, in
no file twice and in at least one. In Redis, two servers hand out of one line.
"""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.redis_server import redis_server
from worker.config import PROJECT


@pytest.mark.parametrize("queue", ["memory", "redis"])
def test_nothing_is_lost_or_doubled_while_workers_die_stop_and_join(
    tmp_path: Path, queue: str
) -> None:
    flags = ["--workers=2", "--images=20", "--alone=0", "--lease=3", "--json=figures.json"]
    with ExitStack() as stack:
        if queue == "redis":
            flags.append(f"--queue={stack.enter_context(redis_server(tmp_path)).url}")
        command = [sys.executable, str(PROJECT / "benchmarks" / "many_workers.py"), *flags]
        done = subprocess.run(command, cwd=tmp_path, timeout=100, check=False)
    figures = json.loads((tmp_path / "figures.json").read_text())["many"]
    assert done.returncode == 0, figures
    assert figures["not_on_server_once"] == figures["twice_in_a_file"] == figures["in_no_file"] == 0
    assert figures["late_worker_got"] > 0
    assert figures["exit_codes"] == [-9, 0, 0]
