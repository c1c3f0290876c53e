"""`demo` does the whole job; `demo-server` is its server alone."""

import signal
from pathlib import Path

from tinydb import TinyDB

from tests.processes import LIMIT, Call, start


def test_demo_server_serves_a_folder_until_it_is_stopped(
    call: Call, pictures: Path, tmp_path: Path
) -> None:
    process = start(tmp_path, "demo-server", str(pictures), "--port", "0")
    assert process.stdout is not None
    url = process.stdout.readline().split()[2].rstrip(";")
    assert call("once", "--url", url).returncode == 0
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    (record,) = TinyDB(tmp_path / "results.json").table("images")
    assert record["file_name"] == "astronaut.jpg"


def test_demo_does_the_whole_job_and_shows_it(call: Call, tmp_path: Path) -> None:
    done = call("demo")
    assert done.returncode == 0
    assert "received 6 results" in done.stdout
    records = {
        d["file_name"]: d for d in TinyDB(tmp_path / "demo" / "results.json").table("images")
    }
    assert len(records) == 6
    assert {r["threshold"] for r in records.values()} == {0.2, 0.5, 0.1}
    assert len(records["group.jpg"]["faces"]) == 6
    assert records["astronaut.jpg"]["faces"][0]["happiness"] > 0.7
    assert (tmp_path / "demo" / "annotated" / "group.jpg").exists()
