"""Kept images: safe names, a size that holds, and no record that is lost over them."""

import base64
import logging
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.photographs import SAMPLES, encode
from tests.processes import run_worker
from tests.scripted_server import Reply, ScriptedServer
from worker.analysis.decoding import decode
from worker.database import Database, read_records
from worker.database.kept_images import NAME, KeptImages, stem
from worker.record import Record
from worker.viewing.thumbnails import SIDE, thumbnails

PNG = b"\x89PNG"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("task", ["../../etc/passwd", "a\0b", "con", "x" * 9999, "\ud800", ""])
def test_no_name_of_a_server_becomes_a_path(tmp_path: Path, task: str) -> None:
    folder = tmp_path / "kept"
    KeptImages(folder, 1000).keep(task, PNG + b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    [name] = names(folder)
    assert NAME.fullmatch(name)
    assert name == f"{stem(task)}.png"
    assert (folder / name).read_bytes() == PNG + b"x"
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("suffix", "encoding"),
    [("jpg", ".jpg"), ("png", ".png"), ("webp", ".webp"), ("bmp", ".bmp"), ("tiff", ".tiff")],
)
def test_the_suffix_is_that_of_the_real_type(tmp_path: Path, suffix: str, encoding: str) -> None:
    kept = KeptImages(tmp_path, 1_000_000)
    kept.keep("photo.exe", encode(encoding, np.zeros((8, 8, 3), np.uint8)))
    kept.keep("other", b"P5 1 1 255 x")
    assert names(tmp_path) == sorted([f"{stem('photo.exe')}.{suffix}", f"{stem('other')}.image"])


def test_the_oldest_go_first_and_only_ours(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(PNG * 100)
    gone, folder = (tmp_path / f"{stem(task)}.png" for task in ("gone", "folder"))
    gone.symlink_to("nowhere")
    folder.mkdir()
    kept = KeptImages(tmp_path, 30)
    for number in range(5):
        kept.keep(f"t{number}", PNG + b"123456")
    kept.keep("huge", PNG * 100)
    others = {"mine.png", gone.name, folder.name}
    assert set(names(tmp_path)) == others | {f"{stem(f't{n}')}.png" for n in (2, 3, 4)}
    # A later process knows their ages.
    for age, number in enumerate((3, 4, 2)):
        os.utime(tmp_path / f"{stem(f't{number}')}.png", (age, age))
    KeptImages(tmp_path, 30).keep("new", PNG + b"123456")
    left = others | {f"{stem(name)}.png" for name in ("t4", "t2", "new")}
    assert set(names(tmp_path)) == left


def test_the_same_image_again_counts_once(tmp_path: Path) -> None:
    kept = KeptImages(tmp_path, 30)
    for _ in range(5):
        kept.keep("a", PNG + b"123456")
    kept.keep("b", PNG + b"123456")
    kept.keep("c", PNG + b"123456")
    assert set(names(tmp_path)) == {f"{stem(name)}.png" for name in "abc"}


def test_a_failure_is_said_once_until_it_goes_well_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "kept"
    folder.write_text("a file")
    kept = KeptImages(folder, 1000)
    with caplog.at_level(logging.WARNING):
        kept.keep("a", PNG)
        kept.keep("b", PNG)
        folder.unlink()
        kept.keep("c", PNG)
        (folder / f"{stem('d')}.png").mkdir()
        kept.keep("d", PNG)
    assert [record.getMessage()[:40] for record in caplog.records] == [
        "[database] keep_images: an image is not "
    ] * 2
    assert f"{stem('c')}.png" in names(folder)


@pytest.mark.parametrize("writable", [True, False])
def test_the_worker_keeps_what_it_analysed_and_the_report_shows_it(
    tmp_path: Path, writable: bool
) -> None:
    kept, file = tmp_path / "kept", tmp_path / "results.json"
    if not writable:
        kept.write_text("no folder")
    flags = ("--set", "database.keep_images=kept", "--set", "database.keep_images_size=5 MB")
    with ScriptedServer() as server:
        server.script("/threshold", Reply(body=b"0.2"))
        name = {"Content-Disposition": 'attachment; filename="../evil.sh"', "X-Task-Id": "t1"}
        server.script(
            "/image",
            Reply(body=SAMPLES["astronaut.jpg"], headers={"Content-Type": "image/jpeg", **name}),
            Reply(body=b"no image", headers={"Content-Type": "image/jpeg", "X-Task-Id": "t2"}),
            Reply(204),
        )
        done = run_worker(tmp_path, "once", "--url", server.url, *flags)
    assert done.returncode == 0, done.stderr
    # Records stand in the order in which their analysis ended.
    faces = {record["task_id"]: len(record["faces"]) for record in read_records(file)}
    assert faces == {"t1": 1, "t2": 0}
    if not writable:
        assert "keep_images: an image is not kept" in done.stderr
        assert thumbnails(read_records(tmp_path / "results.json"), kept) == {}
        return
    assert names(kept) == [f"{stem('t1')}.jpg"]
    assert (kept / names(kept)[0]).read_bytes() == SAMPLES["astronaut.jpg"]
    report = run_worker(tmp_path, "report", *flags)
    assert report.returncode == 0, report.stderr
    assert (tmp_path / "report.html").read_text().count("data:image/jpeg;base64,") == 1
    cropped = run_worker(tmp_path, "crop", *flags)
    assert cropped.stdout.startswith("faces: 1 new faces of 1 images")


def record(task: str, *box: int) -> Record:
    face = {"face_id": 1, "bbox": [str(value) for value in box]}
    return {"file_name": "x", "threshold": 0.5, "faces": [face] if box else [], "task_id": task}


def test_a_thumbnail_is_small_upright_and_has_the_box(tmp_path: Path) -> None:
    lying = np.full((400, 800, 3), 200, np.uint8)
    lying[:, 400:] = 50
    jpeg = encode(".jpg", lying)
    # EXIF: turn by 90 degrees to the right (6).
    tags = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    body = b"Exif\0\0" + tags
    turned = jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]
    kept = KeptImages(tmp_path, 1_000_000)
    kept.keep("t", turned)
    kept.keep("broken", jpeg[:200])
    found = thumbnails(
        [record("t", 100, 500, 300, 700), record("broken"), record("gone")], tmp_path
    )
    assert list(found) == ["t"]
    small = decode(base64.b64decode(found["t"].split(",")[1]), color=True)
    assert small.shape == (SIDE, SIDE // 2, 3)
    assert small[20, 40].min() > 150  # the bright half is above
    assert small[150, 40].max() < 100
    blue, green, red = small[120, 20].astype(int)  # on the left side of the box
    assert green > max(blue, red) + 50
    assert cv2.absdiff(small[120, 40], small[150, 40]).max() < 30  # not in the middle of it


def test_a_record_whose_box_is_none_has_no_thumbnail(tmp_path: Path) -> None:
    KeptImages(tmp_path, 1_000_000).keep("t", SAMPLES["coffee.jpg"])
    odd = record("t") | {"faces": [{"face_id": 1, "bbox": ["a", "b"]}]}
    assert thumbnails([odd], tmp_path) == {}


def test_results_that_analyze_stored_have_no_thumbnail(tmp_path: Path) -> None:
    with Database(tmp_path / "results.json") as database:
        plain = record("x")
        del plain["task_id"]
        database.append(plain)
    assert thumbnails(read_records(tmp_path / "results.json"), tmp_path) == {}
