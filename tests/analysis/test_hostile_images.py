"""Damaged images, by the hundred, against the pipeline in a process that is watched."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from tests.photographs import SAMPLES
from worker.analysis.cropping import decode, jpeg_size
from worker.config import PROJECT
from worker.errors import ImageLost


def test_damaged_images_neither_end_nor_hold_up_the_worker_nor_fill_its_memory(
    tmp_path: Path,
) -> None:
    program = [PROJECT / "benchmarks" / "fuzz.py", "--files", "300", "--seed", "4"]
    files = ["--keep", tmp_path / "kept", "--json", tmp_path / "figures.json"]
    command = [sys.executable, *map(str, (*program, *files))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    formats = json.loads((tmp_path / "figures.json").read_text())["formats"]
    assert [*formats] == ["JPEG", "PNG", "WEBP", "BMP", "TIFF"]
    for of_kind in formats.values():
        assert sum(of_kind["outcomes"].values()) == 60
        # Neither do all of them fail at the first byte, nor is the damage so small that none does.
        assert of_kind["outcomes"]["analyzed"] >= 3
        assert of_kind["outcomes"]["not_an_image"] >= 10


def lost(content: bytes, reduction: int = 1) -> str:
    """Why it is lost; a picture that is not is a failure."""
    with pytest.raises(ImageLost) as caught:
        decode(content, reduction=reduction)
    return caught.value.kind


def test_a_png_whose_chunk_claims_gigabytes_is_not_shown_to_opencv(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    png = cv2.imencode(".png", decode(SAMPLES["coffee.jpg"]))[1].tobytes()
    assert decode(png).size and decode(png + b"what follows").size
    calls: list[object] = []
    monkeypatch.setattr(cv2, "imdecode", lambda *given: calls.append(given))
    at = png.index(b"IDAT") - 4
    lie = png[:at] + struct.pack(">I", 4_000_000_000) + png[at + 4 :]
    assert (lost(lie), calls) == ("not_an_image", [])


def jpeg_of(width: int, height: int, *, filling: bytes = b"") -> bytes:
    """A photograph that states another size, with ``filling`` before the frame that states it."""
    jpeg = SAMPLES["astronaut.jpg"]
    at = jpeg.index(b"\xff\xc0")
    frame = jpeg[at : at + 5] + struct.pack(">HH", height, width)
    return jpeg[:at] + filling + frame + jpeg[at + 9 :]


def test_the_pixel_limit_holds_for_what_a_jpeg_is_before_it_is_reduced() -> None:
    assert lost(jpeg_of(20_000, 30_000), reduction=8) == "too_many_pixels"


@pytest.mark.parametrize("filling", [b"\xff", b"\xff\xd0", b"\xff\x01"])
def test_where_a_decoder_might_read_another_frame_no_size_is_believed(filling: bytes) -> None:
    at = SAMPLES["astronaut.jpg"].index(b"\xff\xc0")
    head = jpeg_of(20_000, 30_000, filling=filling)[: at + 20]
    # What follows the marker, read as a length, leads to a frame that states less.
    there = at + 2 + int.from_bytes(head[at + 2 : at + 4])
    frame = b"\xff\xc0\0\x11\x08" + struct.pack(">HH", 4000, 4000)
    assert jpeg_size(head.ljust(there, b"\0") + frame) is None


@pytest.mark.parametrize("length", range(2, 12))
def test_a_jpeg_that_ends_before_its_frame_has_no_size(length: int) -> None:
    assert jpeg_size((b"\xff\xd8\xff\xe0\0\x02\xff\xc0\0\x11\x08\0")[:length]) is None
