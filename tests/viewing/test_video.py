"""Videos: sampled at the right times, written whole, and what is none is said to be none."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.photographs import encode, picture
from tests.processes import Call
from worker.analysis.cropping import Picture
from worker.errors import ImageLost, Stop, UsageError
from worker.viewing.video import Video, VideoFile

LIMIT = 10_000_000


def level(number: int, side: int = 64) -> Picture:
    return np.full((side, side, 3), 8 * number, np.uint8)


def write(path: Path, pictures: list[Picture], rate: float = 10) -> Path:
    with VideoFile(path, rate) as video:
        for each in pictures:
            video.write(each)
    return path


def read(path: Path, every: float = 0) -> list[tuple[float, float]]:
    with Video(path, LIMIT) as video:
        return [(round(seconds, 3), float(each.mean())) for seconds, each in video.frames(every)]


def test_what_is_written_is_read_again_frame_by_frame(tmp_path: Path) -> None:
    path = write(tmp_path / "deeper" / "a.mp4", [level(n) for n in range(25)])
    found = read(path)
    assert [seconds for seconds, _ in found] == [n / 10 for n in range(25)]
    np.testing.assert_allclose([mean for _, mean in found], [8 * n for n in range(25)], atol=3.9)
    with Video(path, LIMIT) as video:
        assert (video.rate, video.length) == (10, 2.5)


def test_the_first_frame_of_each_interval_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [level(n) for n in range(25)])
    assert [seconds for seconds, _ in read(path, every=0.5)] == [0, 0.5, 1, 1.5, 2]
    assert [seconds for seconds, _ in read(path, every=0.25)][:4] == [0, 0.3, 0.5, 0.8]
    assert [seconds for seconds, _ in read(path, every=60)] == [0]


def test_a_frame_of_another_size_gets_the_first_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [level(3), level(4, side=32)])
    np.testing.assert_allclose([mean for _, mean in read(path)], [24, 32], atol=3)


@pytest.mark.parametrize("content", [b"", b"no video " * 500])
def test_what_is_no_video_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(ImageLost, match="does not open as a video") as caught:
        Video(tmp_path / "a.mp4", LIMIT)
    assert caught.value.kind == "not_a_video"


def test_a_video_that_was_cut_short_gives_its_frames_and_then_says_so(tmp_path: Path) -> None:
    whole = tmp_path / "whole.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
    for number in range(100):
        writer.write(level(number % 30))
    writer.release()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    frames = 0
    with Video(cut, LIMIT) as video, pytest.raises(ImageLost, match=r"of the 10\.0 s") as caught:
        for _ in video.frames():
            frames += 1
    assert 30 < frames < 70
    assert caught.value.kind == "cut_short"


def test_too_large_frames_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [level(1)])
    with pytest.raises(ImageLost, match="max_image_pixels = 4095"):
        Video(path, 64 * 64 - 1)


def test_only_mp4_is_written_and_only_where_there_is_room(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"written as \.mp4"):
        VideoFile(tmp_path / "a.avi", 10)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        write(tmp_path / "file" / "a.mp4", [level(1)])
    (tmp_path / "full.mp4").symlink_to("/dev/full")
    with pytest.raises(Stop, match="is the disk full"):
        write(tmp_path / "full.mp4", [level(n) for n in range(20)])


def test_analyze_samples_a_video_and_draws_the_samples(tmp_path: Path, call: Call) -> None:
    person, nobody = picture("astronaut.jpg"), np.full((512, 512, 3), 128, np.uint8)
    write(tmp_path / "clips" / "clip.mp4", [person] * 5 + [nobody] * 5)
    (tmp_path / "clips" / "none.mov").write_text("no video")
    (tmp_path / "clips" / "a.png").write_bytes(encode(".png", nobody))
    flags = ("--every", "0.5s", "--annotated", "drawn", "--database", "r.json")
    done = call("analyze", "clips", *flags)
    assert done.returncode == 1
    assert "1 of 4 could not be analysed" in done.stderr
    names = [line.split("\t")[1] for line in done.stdout.splitlines()]
    files = ["a.png", "clip.mp4#0.000s", "clip.mp4#0.500s", "none.mov"]
    assert names == [f"clips/{name}" for name in files]
    said = [line.split("\t")[4] for line in done.stdout.splitlines()]
    assert said[0] == said[2] == "no face"
    assert said[1].startswith("happiness")
    assert said[3] == "error: it does not open as a video"
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["a.png", "clip.mp4"]
    with Video(tmp_path / "drawn" / "clip.mp4", LIMIT) as video:
        assert (video.rate, video.length) == (2, 1)
        (_, drawn), (_, empty) = video.frames()
    assert cv2.absdiff(drawn, person).max() > 100
    assert cv2.absdiff(empty, nobody).max() < 20
    kept = call("results", "--database", "r.json", "--file", "*clip.mp4#0.5*")
    assert "clips/clip.mp4#0.500s" in kept.stdout


def test_analyze_never_draws_over_an_original(tmp_path: Path, call: Call) -> None:
    write(tmp_path / "clip.mp4", [level(1)] * 3)
    before = (tmp_path / "clip.mp4").read_bytes()
    done = call("analyze", "clip.mp4", "--annotated", ".")
    assert done.returncode == 2
    assert "clip.mp4 is the original" in done.stderr
    assert (tmp_path / "clip.mp4").read_bytes() == before
