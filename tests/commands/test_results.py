"""`results`: look into the file while a worker writes it, after it was torn, as it grows."""

import csv
import io
import json
import signal
from pathlib import Path

from tinydb import TinyDB

from tests.photographs import SAMPLES
from tests.processes import LIMIT, Call, start, wait_for
from tests.scripted_server import ScriptedServer
from worker.database import Database, parse_rotation
from worker.demo_server.app import create_app
from worker.demo_server.image_queue import MemoryQueue
from worker.web import WebServer


def test_results_shows_filters_and_exports_what_once_stored(call: Call) -> None:
    queue = MemoryQueue(threshold=0.3)
    for name in ("astronaut.jpg", "coffee.jpg"):
        queue.add(SAMPLES[name], name)
    queue.add(b"no image", "broken.png")
    with WebServer(create_app(queue)) as server:
        flags = ("--url", server.url, "--set", "server.results_path=/results")
        in_order = ("--set", "worker.prefetch=0")
        assert call("once", *flags, *in_order).returncode == 0
        assert queue.counts()["done"] == 3
    lines = call("results").stdout.splitlines()
    assert [line.split("\t")[1] for line in lines] == ["astronaut.jpg", "coffee.jpg", "broken.png"]
    happy = call("results", "--emotion", "happiness", "--json").stdout
    assert [json.loads(line)["file_name"] for line in happy.splitlines()] == ["astronaut.jpg"]
    table = call("results", "--csv", "--last", "1").stdout
    (row,) = csv.DictReader(io.StringIO(table))
    assert row["file_name"] == "broken.png"
    assert "do not decode" in row["error"]
    counted = call("results", "--file", "*.jpg", "--counts").stdout.splitlines()
    assert counted[:4] == ["images\t2", "no face\t1", "errors\t0", "faces\t1"]
    assert call("results", "--verify").returncode == 0


def test_before_anything_is_recorded_one_sentence_says_so(call: Call, tmp_path: Path) -> None:
    for words in ((), ("--csv",), ("--emotion", "fear"), ("--sqlite", "r.db")):
        done = call("results", *words)
        assert (done.returncode, done.stdout) == (0, "")  # which a program may read
        assert done.stderr == "nothing is recorded yet: there is no results.json\n"
    (tmp_path / "demo").mkdir()
    with Database(tmp_path / "demo" / "results.json"):
        pass
    hint = "; see the demo's: emotion-worker results --database demo/results.json\n"
    assert call("results").stderr.endswith(hint)
    shown = call("results", "--database", "demo/results.json")
    assert (shown.returncode, shown.stderr) == (
        *(0, "nothing matches, or nothing is recorded yet in demo/results.json\n"),
    )
    assert call("results", "--database", "demo/result.json").returncode == 5  # a slip


def test_several_emotions_are_all_taken_and_only_faces_with_one_are_shown(
    call: Call, tmp_path: Path
) -> None:
    happy, angry, sad = ({name: 0.9} for name in ("happiness", "anger", "sadness"))
    faces = [
        {"face_id": number, **named, "bbox": ["1", "2", "3", "4"], "confidence": 0.7}
        for number, named in enumerate((happy, angry, sad), 1)
    ]
    record = {"file_name": "=1+1.jpg", "threshold": 0.5, "faces": faces}
    more = {"image_size": [320, 240], "elapsed_ms": 31.5}
    with Database(tmp_path / "results.json") as database:
        database.append({**record, **more})
        database.append({"file_name": "wall.jpg", "threshold": 0.5, "faces": []})
    flags = ("--emotion", "happiness", "--emotion", "sadness")
    rows = list(csv.DictReader(io.StringIO(call("results", *flags, "--csv").stdout)))
    assert [row["face_id"] for row in rows] == ["1", "3"]
    keys = ("file_name", "happiness", "confidence", "image_size", "elapsed_ms")
    assert [rows[0][key] for key in keys] == ["'=1+1.jpg", "0.9", "0.7", "320x240", "31.5"]
    lines = call("results", *flags).stdout.splitlines()
    assert [line.split("\t")[3:5] for line in lines] == [
        ["1", "happiness 0.90"],
        ["3", "sadness 0.90"],
    ]
    counted = call("results", *flags, "--counts").stdout
    assert "faces\t2\n" in counted
    assert "anger\t0\n" in counted
    (whole,) = call("results", *flags, "--json").stdout.splitlines()
    assert json.loads(whole)["faces"] == faces


def test_results_of_another_programs_file_is_refused(call: Call, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"name": "package", "version": 1}')
    done = call("results")
    assert done.returncode == 5
    assert "results.json" in done.stderr


def test_results_reads_past_a_torn_tail_and_while_a_worker_writes(
    call: Call, server: ScriptedServer, tmp_path: Path, pictures: Path
) -> None:
    file = tmp_path / "results.json"
    call("analyze", str(pictures), "--database", "results.json")
    torn = file.read_bytes()[:-2] + b', "3": {"file_na'
    file.write_bytes(torn)
    assert len(call("results").stdout.splitlines()) == 2
    assert file.read_bytes() == torn
    assert call("results", "--verify").returncode == 0
    assert len(TinyDB(file).table("images")) == 2
    process = start(tmp_path, "--url", server.url)
    wait_for(lambda: server.requests)
    assert len(call("results").stdout.splitlines()) == 2
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=LIMIT)


def test_results_follow_waits_for_the_first_record(tmp_path: Path) -> None:
    process = start(tmp_path, "results", "--follow")
    assert process.stderr is not None
    assert process.stdout is not None
    assert "nothing is recorded yet" in process.stderr.readline()
    with Database(tmp_path / "results.json") as database:
        database.append({"file_name": "a.png", "threshold": 0.5, "faces": []})
        assert process.stdout.readline() == "-\ta.png\t0.5\t-\tno face\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT)
    assert process.returncode == 0


def test_results_follow_shows_what_comes_across_a_rotation_until_it_is_stopped(
    tmp_path: Path,
) -> None:
    file, record = tmp_path / "results.json", {"threshold": 0.5, "faces": []}
    other = Database(tmp_path / "other.json")
    with Database(file, rotation=parse_rotation("1 kB")) as database, other:
        for name in ("old.png", "0.png"):
            database.append({"file_name": name, **record})
        flags = ("--database", "results.json", "other.json", "--last", "1")
        process = start(tmp_path, "results", "--follow", "--json", *flags)
        assert process.stdout is not None
        seen = [json.loads(process.stdout.readline())["file_name"]]
        for number in range(1, 40):
            database.append({"file_name": f"{number}.png", **record})
            if number in (1, 20, 39):
                while seen[-1] != f"{number}.png":
                    seen.append(json.loads(process.stdout.readline())["file_name"])
        other.append({"file_name": "other.png", **record})
        seen.append(json.loads(process.stdout.readline())["file_name"])
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert seen == [*(f"{number}.png" for number in range(40)), "other.png"]
    assert len(list(tmp_path.glob("results.*Z.json"))) >= 2
