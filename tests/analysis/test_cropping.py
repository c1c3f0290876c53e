"""Bytes become upright gray pixels, boxes become what a network sees."""

import io
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.photographs import SAMPLES, encode, picture
from worker.analysis.cropping import crop_face, decode, normalise, resize
from worker.config import PROJECT
from worker.errors import ImageLost
from worker.record import Box


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and float(np.abs(a.astype(int) - b.astype(int)).mean()) < 4


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
@pytest.mark.parametrize("kind", ["color", "gray"])
def test_each_format_decodes_to_the_same_gray_picture(suffix: str, kind: str) -> None:
    gray = picture("astronaut.jpg", color=False)
    content = encode(suffix, picture("astronaut.jpg", color=kind == "color"))
    decoded = decode(content)
    assert decoded.dtype == np.uint8
    assert close(decoded, gray)
    assert decode(content, color=True).shape == (512, 512, 3)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bits_and_transparency_decode_to_the_same_gray_picture(suffix: str) -> None:
    color, gray = picture("astronaut.jpg"), picture("astronaut.jpg", color=False)
    deep = gray.astype(np.uint16) * 257
    alpha = np.dstack([color, np.full((512, 512), 255, np.uint8)])
    assert close(decode(encode(suffix, deep)), gray)
    assert close(decode(encode(suffix, color.astype(np.uint16) * 257)), gray)
    assert close(decode(encode(suffix, alpha)), gray)


@pytest.mark.parametrize("suffix", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(suffix: str, orientation: int) -> None:
    upright = picture("grace_hopper.jpg", color=False)
    # How a camera that is held so stores the picture: the inverse of what a viewer must do.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored)).convert("RGB").save(file, suffix, exif=exif)
    assert close(decode(file.getvalue()), upright)
    assert close(cv2.cvtColor(decode(file.getvalue(), color=True), cv2.COLOR_BGR2GRAY), upright)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no image at all",
        b"<!doctype html><title>502 Bad Gateway</title>",
        SAMPLES["astronaut.jpg"][: len(SAMPLES["astronaut.jpg"]) // 2],
        encode(".png", picture("astronaut.jpg"))[:-20_000],
        b"\xff\xd8\xff\xe0",
    ],
    ids=["empty", "text", "html", "half a JPEG", "half a PNG", "a JPEG's first bytes"],
)
def test_what_is_no_complete_image_is_lost_with_a_reason(content: bytes) -> None:
    with pytest.raises(ImageLost) as caught:
        decode(content)
    assert caught.value.kind == "not_an_image"


def test_a_100_megapixel_png_is_refused_before_it_is_decoded() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    row = zlib.compress(b"\0" * 10_001 * 10_000)
    png = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0)
    )
    png += chunk(b"IDAT", row) + chunk(b"IEND", b"")
    with pytest.raises(ImageLost) as caught:
        decode(png)
    assert caught.value.kind == "too_many_pixels"
    assert "max_image_pixels = 64000000" in str(caught.value)


def test_the_pixel_limit_follows_the_configuration() -> None:
    command = (
        "import sys; from argparse import Namespace; from worker.commands.common import configure;"
        "configure(Namespace(config=None, set=['server.max_image_pixels=1000']));"
        "from worker.analysis.cropping import decode; decode(sys.stdin.buffer.read())"
    )
    content = encode(".png", np.zeros((40, 40), np.uint8))
    done = subprocess.run(
        [sys.executable, "-c", command], input=content, cwd=PROJECT, capture_output=True
    )
    assert b"max_image_pixels = 1000" in done.stderr


@given(st.binary(max_size=300))
def test_no_bytes_whatever_they_are_give_anything_but_a_picture_or_a_lost_image(
    content: bytes,
) -> None:
    try:
        assert decode(content).dtype == np.uint8
    except ImageLost as lost:
        assert lost.kind in ("not_an_image", "too_many_pixels")


def test_a_crop_is_the_box_itself() -> None:
    gray = np.arange(10_000, dtype=np.uint8).reshape(100, 100)
    assert np.array_equal(crop_face(gray, Box(20, 30, 68, 78), 48), gray[30:78, 20:68])


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_a_crop_has_the_size_asked_for_wherever_the_box_lies(
    width: int, height: int, data: st.DataObject
) -> None:
    gray = np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.uint8)
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = Box(x1, y1, data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height)))
    crop = crop_face(gray, box, 48)
    assert crop.shape == (48, 48)
    assert crop.dtype == np.uint8
    assert gray.min() <= crop.min()
    assert crop.max() <= gray.max()


def test_a_crop_beyond_the_border_repeats_the_outermost_pixels() -> None:
    gray = np.full((10, 20), 7, np.uint8)
    assert np.array_equal(crop_face(gray, Box(0, 0, 20, 10), 48), np.full((48, 48), 7, np.uint8))


def test_resizing_to_the_same_side_changes_nothing() -> None:
    crop = np.random.default_rng(0).integers(0, 256, (48, 48)).astype(np.uint8)
    assert np.array_equal(resize(crop, 48), crop)


def test_each_face_is_normalised_by_itself() -> None:
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 48, 48)))
    faces = normalise(noise.to(torch.uint8))
    assert faces.shape == (3, 1, 48, 48)
    assert faces.dtype == torch.float32
    assert torch.allclose(faces.mean(dim=(1, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(faces.std(dim=(1, 2, 3), correction=0), torch.ones(3), atol=1e-5)


def test_brightness_and_contrast_make_no_difference_and_a_flat_crop_is_no_accident() -> None:
    crop = torch.from_numpy(np.random.default_rng(0).integers(0, 100, (1, 48, 48))).float()
    assert torch.allclose(normalise(crop), normalise(crop * 1.5 + 20), atol=1e-4)
    assert torch.equal(normalise(torch.full((1, 48, 48), 9.0)), torch.zeros(1, 1, 48, 48))
