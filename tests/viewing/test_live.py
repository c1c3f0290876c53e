"""`live`: boxes follow faces, each frame is shown once and in time, and pages show the newest."""

import shutil
import signal
import subprocess
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread

import cv2
import numpy as np
import pytest
import requests

from tests.photographs import overlap, picture
from tests.processes import Call, command, start
from tests.viewing.test_video import LIMIT, level, write
from worker.analysis.cropping import Picture
from worker.analysis.decoding import decode
from worker.commands.live import add_flags
from worker.errors import ImageLost
from worker.hints import host_and_port
from worker.record import Box, Face
from worker.viewing.follower import SEARCH_EVERY, FindFaces, follow
from worker.viewing.live import newest, on_time, play, show_on_page, summary
from worker.viewing.video import Video

SCENE = np.random.default_rng(0).integers(0, 60, (240, 320), np.uint8)
FACE = picture("astronaut.jpg", color=False)[66:164, 174:272]


def frame(x: int, y: int) -> Picture:
    """A face, 98 pixels square, at this place."""
    scene = SCENE.copy()
    scene[y : y + 98, x : x + 98] = FACE
    return scene


def box(x: int, y: int) -> Box:
    return Box(x, y, x + 98, y + 98)


def followed(grays: list[Picture], find_faces: FindFaces) -> list[tuple[Face, ...]]:
    """The faces of each of these frames, as the follower has them."""
    frames = [(0.0, np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), np.uint8)) for gray in grays]
    return [faces for _, faces in follow(frames, find_faces)]


def test_a_box_follows_its_face_between_two_searches() -> None:
    places = [(20 + 6 * n, 40 + 3 * n) for n in range(4 * SEARCH_EVERY)]
    frames = [frame(*place) for place in places]
    searched = []

    def find_faces(gray: Picture) -> tuple[Face, ...]:
        [number] = [n for n, each in enumerate(frames) if np.array_equal(each, gray)]
        searched.append(number)
        return (Face(box(*places[number]), {"fear": number / 100}),)

    found = followed(frames, find_faces)
    assert searched == list(range(0, len(frames), SEARCH_EVERY))
    for place, faces in zip(places, found, strict=True):
        assert overlap(faces[0].box, box(*place)) > 0.85
    # What a search says is taken up when the next one begins.
    emotions = [100 * faces[0].probabilities["fear"] for faces in found]
    assert emotions == [0] * 2 * SEARCH_EVERY + [5] * SEARCH_EVERY + [10] * SEARCH_EVERY


def test_a_face_that_is_gone_has_no_box() -> None:
    frames = [frame(100, 60), frame(102, 60), SCENE, np.zeros_like(SCENE)]
    found = followed(frames, lambda _: (Face(box(100, 60), {}),))
    assert [len(faces) for faces in found] == [1, 1, 0, 0]


def test_a_box_at_the_border_is_followed_as_long_as_all_of_it_is_there() -> None:
    _, faces = followed([frame(0, 0), frame(4, 0)], lambda _: (Face(box(0, 0), {}),))
    assert faces[0].box.x1 > 0


def test_an_error_of_the_search_is_raised() -> None:
    def fail(_: Picture) -> tuple[Face, ...]:
        raise ImageLost("x", "broken")

    with pytest.raises(ImageLost, match="broken"):
        followed([SCENE], fail)


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(("work", "shown", "took"), [(0.01, 20, 1.91), (0.3, 7, 2.1)])
def test_a_file_plays_at_its_own_speed(work: float, shown: int, took: float) -> None:
    clock, count = Clock(), 0
    for _ in on_time([(n / 10, SCENE) for n in range(20)], clock, clock.advance):
        clock.advance(work)
        count += 1
    assert count == shown
    assert clock.now == pytest.approx(took)


def test_the_last_line_says_what_was_shown() -> None:
    assert summary(0, 0.0, Counter()) == "0 frames, 0.0 a second; no face"
    emotions = Counter({"fear": 1, "happiness": 3})
    said = "4 frames, 2.0 a second; faces: happiness 75%, fear 25%"
    assert summary(4, 2.0, emotions) == said


def test_of_a_camera_only_the_newest_frame_is_given() -> None:
    read = Event()

    def camera() -> Iterator[tuple[float, Picture]]:
        for number in range(9):
            yield number, SCENE
        read.set()
        raise ImageLost("not_a_video", "unplugged")

    frames = newest(camera())
    first = next(frames)[0]
    assert read.wait(10)
    rest = []
    with pytest.raises(ImageLost, match="unplugged"):
        rest += [seconds for seconds, _ in frames]
    assert [first, *rest][-1] == 8
    assert len(rest) <= 1


def test_a_page_shows_the_newest_frame_and_can_be_a_source(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with show_on_page("127.0.0.1", 0) as show:
        url = capsys.readouterr().out.split()[2].rstrip(";")
        assert '<img src="stream"' in requests.get(url, timeout=10).text
        assert requests.get(f"{url}/other", timeout=10).status_code == 404
        over = Event()

        def keep_showing() -> None:
            while not over.wait(0.01):
                show(level(20))

        showing = Thread(target=keep_showing)
        showing.start()
        try:
            with Video(f"{url}/stream", LIMIT) as video:
                assert video.length is None
                shown, _ = next(play(video, lambda _: (), 0.5, hurry=False))
            with requests.get(f"{url}/stream", timeout=10, stream=True) as answer:
                policy = answer.headers["Cross-Origin-Resource-Policy"]
                part = answer.raw.read(2000).split(b"\r\n\r\n")[1]
        finally:
            over.set()
            showing.join()
    assert shown.shape == level(20).shape
    assert policy == "same-origin"
    assert part.startswith(b"\xff\xd8")


def test_viewers_beyond_the_usual_do_not_hold_up_the_page(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with show_on_page("127.0.0.2", 0) as show, ExitStack() as stack:
        url = capsys.readouterr().out.split()[2].rstrip(";")
        show(level(20))
        for _ in range(10):
            viewer = requests.get(f"{url}/stream", stream=True, timeout=30)
            stack.enter_context(viewer)
            assert viewer.raw.read(2) == b"--"
        assert requests.get(url, timeout=30).status_code == 200
        evil = requests.get(url, timeout=30, headers={"Host": "evil.example"})
        assert evil.status_code == 403


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("nowhere", 2, "nowhere: there is no such file"),
        ("a.mp4", 1, "a.mp4: it does not open as a video"),
        ("77", 1, "77: there is no camera 77"),
    ],
)
def test_a_source_that_is_none_is_named(
    tmp_path: Path, call: Call, source: str, code: int, says: str
) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    done = call("live", "--source", source, "--output", "b.mp4")
    assert done.returncode == code
    assert f"--source {says}" in done.stderr


def greenness(shown: Picture) -> int:
    place = shown[90:140, 155:185].astype(int)
    return int((place[..., 1] - place[..., 2]).max())


def test_the_command_writes_a_video_with_the_faces_drawn_in(tmp_path: Path, call: Call) -> None:
    person = picture("astronaut.jpg")
    write(tmp_path / "a.mp4", [person] * 12)
    done = call("live", "--source", "a.mp4", "--output", "b.mp4")
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["12", "frames,"]), done.stderr
    assert "; faces: happiness 100%" in done.stdout
    with Video(tmp_path / "b.mp4", LIMIT) as video:
        drawn = [each for _, each in video.frames()]
    assert len(drawn) == 12
    for each in drawn:  # the box's left side is green, which the photograph is not
        assert greenness(each) > 60 > 2 * greenness(person)
    again = call("live", "--source", "a.mp4", "--output", "a.mp4")
    assert again.returncode == 2
    assert "is the source" in again.stderr


def test_without_a_screen_it_names_the_other_ways(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.mp4", [level(1)])
    for screen in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(screen, raising=False)
    done = call("live", "--source", "a.mp4")
    assert done.returncode == 2
    assert "use --output out.mp4 or --serve 127.0.0.1:8080" in done.stderr


@pytest.mark.skipif(not shutil.which("xvfb-run"), reason="`live` in a window: apt-get install xvfb")
def test_with_a_screen_it_opens_a_window(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", [level(n) for n in range(5)])
    done = subprocess.run(
        ["xvfb-run", "-a", *command("live", "--source", "a.mp4")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "frames, " in done.stdout


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_a_page_is_served_at_any_kind_of_address(given: str, meant: tuple[str, int]) -> None:
    parser = ArgumentParser()
    add_flags(parser)
    assert host_and_port(parser.parse_args(["--serve", given]).serve) == meant


def test_the_command_serves_a_page_until_it_is_told_to_stop(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", [picture("astronaut.jpg")] * 60, rate=1)
    process = start(tmp_path, "live", "--source", "a.mp4", "--serve", "127.0.0.1:0")
    assert process.stdout is not None
    url = process.stdout.readline().split()[2].rstrip(";")
    with requests.get(f"{url}/stream", timeout=60, stream=True) as answer:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += answer.raw.read(1)
        length = int(head.split(b"Content-Length: ")[1].split()[0])
        shown = decode(answer.raw.read(length), color=True)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert shown.shape == (512, 512, 3)
