"""Bytes become upright pixels: the picture that Pillow and a browser show."""

import io
import struct
import zlib
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tests.photographs import SAMPLES, encode, picture
from worker.analysis.decoding import FORMATS, REDUCTIONS, decode, decode_view, read_size
from worker.errors import ImageLost

PHOTOGRAPH = SAMPLES["astronaut_small.jpg"]
COLORS = Image.fromarray(picture("astronaut_small.jpg")[:, :, ::-1])
INTEGER_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # of EXIF, and struct's letters


def saved(image: Image.Image, kind: str, **how: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def shown(content: bytes) -> np.ndarray:
    """Red-green-blue, as Pillow shows it."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))


def gray_of(colors: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(colors).convert("L"))


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and float(np.abs(a.astype(int) - b.astype(int)).mean()) < 4


def lost(content: bytes) -> str:
    """Why it is lost; a picture that is not is a failure."""
    with pytest.raises(ImageLost) as caught:
        decode(content)
    return caught.value.kind


# --- formats and colours


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_each_format_gives_the_pixels_that_pillow_shows(kind: str, mode: str) -> None:
    content = saved(COLORS.convert(mode), kind)
    assert np.array_equal(decode(content, color=True), shown(content)[:, :, ::-1])
    # A JPEG holds its luminance: that of a colour beyond red, green and blue is no gray of theirs.
    difference = np.abs(decode(content).astype(int) - gray_of(shown(content)))
    assert difference.max() == 0 or (kind == "JPEG" and difference.mean() < 0.5)
    assert decode(content).dtype == np.uint8
    assert read_size(content) == COLORS.size


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bits_and_transparency_decode_to_the_same_gray_picture(suffix: str) -> None:
    color, gray = picture("astronaut.jpg"), picture("astronaut.jpg", color=False)
    deep = gray.astype(np.uint16) * 257
    alpha = np.dstack([color, np.full((512, 512), 255, np.uint8)])
    assert close(decode(encode(suffix, deep)), gray)
    assert close(decode(encode(suffix, color.astype(np.uint16) * 257)), gray)
    assert close(decode(encode(suffix, alpha)), gray)


@pytest.mark.parametrize("how", ["CMYK", "P", "1", "LA", "RGBA"])
def test_other_kinds_of_pixels_are_those_that_pillow_shows(how: str) -> None:
    content = saved(COLORS.convert(how), "TIFF" if how == "CMYK" else "PNG")
    assert np.array_equal(decode(content), gray_of(shown(content)))


@pytest.mark.parametrize("gamma", [0.25, 1 / 2.2, 1.0])
def test_gray_levels_are_those_of_the_colours_whatever_gamma_a_png_states(gamma: float) -> None:
    png = saved(COLORS, "PNG")
    chunk = b"gAMA" + struct.pack(">I", round(gamma * 100_000))
    content = png[:33] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    assert np.array_equal(decode(content + png[33:]), gray_of(np.asarray(COLORS)))


# --- orientation


def exif_of(orientation: int, order: str, kind: int) -> bytes:
    """EXIF data with one entry: ``order`` `<` or `>`, ``kind`` an integer type of TIFF."""
    value = struct.pack(order + INTEGER_TYPES[kind], orientation).ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + struct.pack(order + "HHHI", 1, 0x0112, kind, 1) + value + bytes(4)


def with_exif(kind: str, image: Image.Image, exif: bytes) -> bytes:
    """A file with these EXIF data, put into it as its format has it."""
    if kind == "WEBP":
        return saved(image, kind, exif=exif, lossless=True)
    content = saved(image, kind, quality=95)
    if kind == "JPEG":
        segment = b"Exif\0\0" + exif
        length = struct.pack(">H", len(segment) + 2)
        return content[:2] + b"\xff\xe1" + length + segment + content[2:]
    body = b"eXIf" + exif
    chunk = struct.pack(">I", len(exif)) + body + struct.pack(">I", zlib.crc32(body))
    return content[:33] + chunk + content[33:]


def stored(upright: np.ndarray, orientation: int) -> Image.Image:
    """How a camera that is held so stores it: the inverse of what a viewer must do."""
    return Image.fromarray(
        np.ascontiguousarray(
            {
                1: upright,
                2: upright[:, ::-1],
                3: upright[::-1, ::-1],
                4: upright[::-1],
                5: upright.T,
                6: np.rot90(upright, 1),
                7: upright[::-1, ::-1].T,
                8: np.rot90(upright, -1),
            }[orientation]
        )
    )


UPRIGHT = cv2.resize(
    picture("grace_hopper_small.jpg", color=False), (60, 75), interpolation=cv2.INTER_AREA
)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
@given(order=st.sampled_from("<>"), number=st.sampled_from(sorted(INTEGER_TYPES)))
def test_exif_turns_it_upright_in_any_byte_order_and_integer_type(
    kind: str, orientation: int, order: str, number: int
) -> None:
    exif = exif_of(orientation, order, number)
    content = with_exif(kind, stored(UPRIGHT, orientation), exif)
    assert close(decode(content), UPRIGHT)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_so_it_does_in_tiff_and_in_a_webp_whose_chunk_begins_as_a_jpeg_segment_does(
    orientation: int,
) -> None:
    image = stored(UPRIGHT, orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert close(decode(saved(image, "TIFF", exif=exif)), UPRIGHT)
    plain = exif_of(orientation, ">", 3)
    webp = saved(image, "WEBP", lossless=True, exif=plain)
    chunk = struct.pack("<I", len(plain)) + plain
    webp = webp.replace(chunk, struct.pack("<I", len(plain) + 6) + b"Exif\0\0" + plain)
    webp = webp[:4] + struct.pack("<I", len(webp) - 8) + webp[8:]
    assert b"Exif\0\0" in webp
    assert close(decode(webp), UPRIGHT)
    assert close(decode(webp, color=True)[:, :, 0], UPRIGHT)


@pytest.mark.parametrize(
    "exif", [b"", b"II*\0", b"MM\0*\0\0\0\x08\xff\xff", bytes(40), b"\xff" * 40]
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_data_do_no_harm_to_the_picture(kind: str, exif: bytes) -> None:
    assert close(decode(with_exif(kind, stored(UPRIGHT, 1), exif)), UPRIGHT)


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_is_none_turns_nothing(orientation: int) -> None:
    content = with_exif("JPEG", stored(UPRIGHT, 1), exif_of(orientation, ">", 3))
    assert close(decode(content), UPRIGHT)


# --- a JPEG decoded small


@given(
    width=st.integers(8, 70),
    height=st.integers(8, 70),
    reduction=st.sampled_from(REDUCTIONS),
    orientation=st.integers(1, 8),
    progressive=st.booleans(),
)
def test_a_jpeg_comes_so_many_times_smaller_and_knows_its_own_size(
    width: int, height: int, reduction: int, orientation: int, progressive: bool
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = COLORS.resize((width, height))
    content = saved(image, "JPEG", exif=exif, progressive=progressive)
    view = decode_view(content, reduction=reduction)
    rows, columns = shown(content).shape[:2]
    assert (view.height, view.width) == (rows, columns)
    assert view.pixels.shape == (-(-rows // reduction), -(-columns // reduction))


def test_a_jpeg_decoded_small_is_the_picture_in_small() -> None:
    content = saved(COLORS.resize((800, 800)), "JPEG", progressive=True)
    small = cv2.resize(decode(content), (100, 100), interpolation=cv2.INTER_AREA)
    assert close(decode_view(content, reduction=8).pixels, np.asarray(small))


# --- what is cut short or is no image


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_that_lacks_only_its_end_marker_is_the_same_picture(
    progressive: bool, missing: int
) -> None:
    content = saved(COLORS, "JPEG", progressive=progressive)
    cut = content[:-missing]
    assert np.array_equal(decode(cut), decode(content))
    for reduction in REDUCTIONS:
        view = decode_view(cut, reduction=reduction)
        assert np.array_equal(view.pixels, decode_view(content, reduction=reduction).pixels)


@given(share=st.floats(0.05, 0.98))
def test_a_jpeg_that_lacks_more_is_lost(share: float) -> None:
    content = saved(COLORS.resize((120, 120)), "JPEG", quality=90)
    assert lost(content[: round(share * len(content))]) == "not_an_image"


@given(st.data())
def test_so_is_a_progressive_one_that_ends_within_a_scan(data: st.DataObject) -> None:
    content = saved(COLORS.resize((120, 120)), "JPEG", progressive=True, quality=90)
    starts = [at for at in range(len(content)) if content[at : at + 2] == b"\xff\xda"]
    start, end = data.draw(st.sampled_from(list(pairwise([*starts, len(content)]))))
    # Not its last bytes: they may hold nothing but the filling that every scan ends with, and what
    # stands between two scans.
    cut = data.draw(st.integers(start + 20, max(start + 20, end - 80)))
    assert lost(content[:cut]) == "not_an_image"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no image at all",
        b"<!doctype html><title>502 Bad Gateway</title>",
        encode(".png", picture("astronaut.jpg"))[:-20_000],
        b"\xff\xd8\xff\xe0",
        b"\xff\xd8",
    ],
    ids=["empty", "text", "html", "half a PNG", "a JPEG's first bytes", "its start marker"],
)
def test_what_is_no_complete_image_is_lost_with_a_reason(content: bytes) -> None:
    assert lost(content) == "not_an_image"


@given(st.binary(max_size=300))
def test_no_bytes_whatever_they_are_give_anything_but_a_picture_or_a_lost_image(
    content: bytes,
) -> None:
    try:
        assert decode(content).dtype == np.uint8
    except ImageLost as problem:
        assert problem.kind in ("not_an_image", "too_many_pixels")


# --- the pixel limit


@pytest.mark.parametrize("kind", FORMATS)
def test_the_pixel_limit_is_the_one_that_was_passed(kind: str) -> None:
    content = saved(Image.new("RGB", (30, 40)), kind)
    assert decode(content, max_pixels=1200).shape == (40, 30)
    with pytest.raises(ImageLost, match="max_image_pixels = 1199") as caught:
        decode(content, max_pixels=1199)
    assert caught.value.kind == "too_many_pixels"


def test_a_100_megapixel_png_is_refused_before_it_is_decoded() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0))
    row = zlib.compress(b"\0" * 10_001 * 10_000)
    end = chunk(b"IDAT", row) + chunk(b"IEND", b"")
    assert lost(b"\x89PNG\r\n\x1a\n" + head + end) == "too_many_pixels"


def test_the_pixel_limit_holds_for_what_a_jpeg_is_before_it_is_reduced() -> None:
    jpeg = SAMPLES["astronaut.jpg"]
    at = jpeg.index(b"\xff\xc0")
    large = jpeg[: at + 5] + struct.pack(">HH", 20_000, 30_000) + jpeg[at + 9 :]
    with pytest.raises(ImageLost) as caught:
        read_size(large)
    assert caught.value.kind == "too_many_pixels"
