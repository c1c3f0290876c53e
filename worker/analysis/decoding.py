"""From an image file's bytes to its pixels, upright: the picture that Pillow and a browser show.

Everything is bounded before it is decoded. Whatever a decoder raises over bytes from elsewhere, the
bytes are at fault; what ends the process instead is dealt with in `analysts.py`.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from worker.analysis.cropping import Picture
from worker.errors import ImageLost

# Pillow's names. The suffixes that files of theirs have stand in worker/files.py.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
MAX_PIXELS = 64_000_000  # for one's own files; the daemon has [server] max_image_pixels
REDUCTIONS = (8, 4, 2, 1)  # how many times smaller a JPEG can be decoded
EXIF_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height
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
    if not content:
        raise ImageLost("not_an_image", "the image is empty (0 bytes)")
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
    time. Raises ImageLost: ``not_an_image`` where it is damaged or not complete.
    """
    mode = "RGB" if color else "L"
    try:
        return _view(content, mode, reduction)
    except Exception as error:
        if _lacks_end_only(content):
            return _view(_with_end(content), mode, reduction)
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
    if orientation in EXIF_TURNS:
        picture = picture.transpose(EXIF_TURNS[orientation])
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


def _with_end(content: bytes, filling: bytes = b"") -> bytes:
    return content.removesuffix(JPEG_END[:1]) + filling + JPEG_END


def _lacks_end_only(content: bytes) -> bool:
    """Whether a JPEG that does not decode is complete but for its end marker. If more is missing,
    it becomes another picture with other bytes behind it. (A progressive one may lack whole scans:
    it is then a coarser picture, as a browser shows it.)"""
    if not content.startswith(JPEG_START):
        return False
    try:
        one, other = (_view(_with_end(content, each), "RGB", 1) for each in (b"", FILLING))
    except Exception:  # noqa: BLE001 - as in decode_view, and the first error has been kept
        return False
    return np.array_equal(one.pixels, other.pixels)


def _no_image(content: bytes) -> ImageLost:
    return ImageLost(
        "not_an_image", f"its {len(content)} bytes do not decode as an image (or not to its end)"
    )
