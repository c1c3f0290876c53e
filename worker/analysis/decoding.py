"""From an image file's bytes to its pixels, upright: the picture that Pillow and a browser show.

Everything is bounded before it is decoded. Whatever a decoder raises over bytes from elsewhere, the
bytes are at fault; what ends the process instead is dealt with in `analysts.py`.
"""

import io
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps
from PIL.ExifTags import Base

from worker.analysis.cropping import Picture
from worker.errors import ImageLost

# Pillow's names. The suffixes that files of theirs have stand in worker/files.py.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
MAX_PIXELS = 64_000_000  # for one's own files; the daemon has [server] max_image_pixels
REDUCTIONS = (8, 4, 2, 1)  # how many times smaller a JPEG can be decoded
SIDEWAYS = (5, 6, 7, 8)  # EXIF's orientations that exchange width and height
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
FILLING = bytes(range(1, 65))  # put where something may be missing at the end of a JPEG

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit, for all of the process; ours is passed


@dataclass(frozen=True)
class View:
    """An upright image's pixels, perhaps fewer than the ``width`` times ``height`` that it has.

    ``pixels``: uint8 ``(rows, columns)``, gray, or ``(rows, columns, 3)``, blue-green-red.
    """

    pixels: Picture
    width: int
    height: int

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the image to one of the view: across, and down."""
        rows, columns = self.pixels.shape[:2]
        return self.width / columns, self.height / rows


def read_size(content: bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """The two sides of an image file's picture, in pixels, from its header alone.

    Raises ImageLost: ``not_an_image``, or ``too_many_pixels``.
    """
    try:
        width, height = _open(content).size
    except Exception as error:
        raise _no_image(content) from error
    if width * height > max_pixels:
        raise ImageLost(
            "too_many_pixels", f"the image has more than [server] max_image_pixels = {max_pixels}"
        )
    return width, height


def decode_view(content: bytes, *, color: bool = False, reduction: int = 1) -> View:
    """Decode an image file whose size was looked at.

    Transparency is dropped, 16 bits become 8, and of several pictures the first one counts.
    ``reduction``: one of REDUCTIONS; a JPEG comes so many times smaller, for a fraction of the
    time. Raises ImageLost: ``not_an_image`` if it is damaged or not complete.
    """
    mode = "RGB" if color else "L"
    try:
        return _view(content, mode, reduction)
    except Exception as error:
        if completed := _completed(content):
            return _view(completed, mode, reduction)
        raise _no_image(content) from error


def decode(content: bytes, *, color: bool = False, max_pixels: int = MAX_PIXELS) -> Picture:
    """All pixels of an image file, as a View has them. Raises what the two functions above do."""
    read_size(content, max_pixels)
    return decode_view(content, color=color).pixels


def _open(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content), formats=FORMATS)


def _view(content: bytes, mode: str, reduction: int) -> View:
    image = _open(content)
    width, height = image.size
    image.draft(mode, (max(1, width // reduction), max(1, height // reduction)))
    image.load()
    orientation = _orientation(image)  # not before: Pillow turns a TIFF by itself, and says so
    if image.mode.startswith("I;16"):  # Pillow would make all levels above 255 white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    picture = image.convert(mode)
    picture.info.clear()  # and with it other EXIF data, which may be damaged
    picture.getexif()[Base.Orientation] = orientation
    ImageOps.exif_transpose(picture, in_place=True)
    if orientation in SIDEWAYS:
        width, height = height, width
    pixels = np.asarray(picture, np.uint8)
    if mode == "RGB":
        pixels = np.ascontiguousarray(pixels[:, :, ::-1])
    return View(pixels, width, height)


def _orientation(image: Image.Image) -> int:
    """How the picture is to be turned, 1 to 8, as its EXIF data say; 1 if they make no sense."""
    try:
        orientation = image.getexif().get(Base.Orientation)
    except Exception:  # noqa: BLE001 - the picture is none the worse for damaged EXIF data
        return 1
    if isinstance(orientation, bytes):  # EXIF's type BYTE
        orientation = int.from_bytes(orientation)
    return orientation if isinstance(orientation, int) else 1


def _completed(content: bytes) -> bytes | None:
    """A JPEG with its end marker, if that is all that it lacks. If more is missing, it becomes
    another picture with other bytes before the marker. (A progressive one may lack whole scans: it
    is then a coarser picture, as a browser shows it.)"""
    body = content.removesuffix(JPEG_END[:1])
    with suppress(Exception):  # as in decode_view, which has the first error
        one, other = (_view(body + each + JPEG_END, "RGB", 1) for each in (b"", FILLING))
        if content.startswith(JPEG_START) and np.array_equal(one.pixels, other.pixels):
            return body + JPEG_END
    return None


def _no_image(content: bytes) -> ImageLost:
    return ImageLost(
        "not_an_image", f"its {len(content)} bytes do not decode as an image (or not to its end)"
    )
