"""Image files: their bytes, the digest of the bytes, and their pixels."""

import hashlib
import io
import struct
import warnings
import zlib
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from multispace.errors import ImageError

NO_FILE = "no such file"
MAX_PIXELS = 89_478_485  # a quarter of a gigabyte of RGB; Pillow has the same limit
MAX_ASPECT = 100  # enlarging the shorter side of a thin strip would need unbounded memory
DECODING = "pillow, exif orientation applied, first frame, rgb"

# Exceptions of Pillow's decoders on damaged files, found by altering files of sixteen formats.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    RuntimeError,
    EOFError,
    LookupError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

_CONVERSIONS = {
    "1": "black and white to RGB",
    "L": "grey to RGB",
    "LA": "transparency left out",
    "RGBA": "transparency left out",
    "P": "palette to RGB",
    "CMYK": "CMYK to RGB",
    "I;16": "16 bits to 8",
    "I;16B": "16 bits to 8",
    "I": "16 bits to 8",
}
_FAMILY = {"MPO": "JPEG"}  # a JPEG with a second image

# Pillow warns above its limit and refuses above twice the limit; _check refuses above the limit.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@cache
def image_suffixes() -> frozenset[str]:
    """Return the suffixes of image files, such as ".jpg", that Pillow can read."""
    readable = Image.OPEN  # filled by the next call
    suffixes = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in suffixes.items() if kind in readable)


def has_image_suffix(name: str) -> bool:
    """Return whether a file name ends as those of images do, in any case."""
    return PurePosixPath(name).suffix.lower() in image_suffixes()


def read_bytes(path: Path) -> bytes:
    """Return the bytes of an image file.

    :raises ImageError: the file is missing, empty, or cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(NO_FILE, where=path) from None
    except OSError as error:
        raise ImageError(error.strerror or error, where=path) from error
    if not content:
        raise ImageError("empty file", where=path)
    return content


def digest(content: bytes) -> bytes:
    """Return the SHA-256 (32 bytes) of the content of an image file."""
    return hashlib.sha256(content).digest()


def decode(content: bytes, path: Path) -> Image.Image:
    """Return the first frame in RGB, upright, with 8 bits per channel and no transparency.

    :param path: names the image in errors
    :raises ImageError: the content is not a complete image, or exceeds ``MAX_PIXELS`` or
        ``MAX_ASPECT``.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            _check(image)
            image.load()
            upright = ImageOps.exif_transpose(image)
            if upright.mode == "F":
                raise ValueError("floating-point pixels, whose range is unknown")
            if upright.mode.startswith("I"):
                # 16-bit grey: convert("RGB") would clip at 255 instead of scaling.
                pixels = np.asarray(upright).clip(0, 65535) // 257
                upright = Image.fromarray(pixels.astype(np.uint8))
            if upright.mode == "P":
                upright = upright.convert("RGBA")  # Pillow warns about a direct conversion to RGB
            return upright.convert("RGB")
    except _DECODER_ERRORS as error:
        raise _refusal(path, error) from error


def conversions(content: bytes, path: Path) -> list[str]:
    """Return the conversions that :func:`decode` applies, from the header; none for plain RGB.

    :param path: names the image in errors, and its extension is compared with the format
    :raises ImageError: the header shows that the image cannot be decoded.
    """
    found = []
    try:
        with Image.open(io.BytesIO(content)) as image:
            _check(image)
            if image.mode != "RGB":
                found.append(_CONVERSIONS.get(image.mode, f"mode {image.mode} to RGB"))
            if getattr(image, "is_animated", False):
                found.append("first frame of several")
            if image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
                found.append("turned upright by EXIF")
            named = Image.registered_extensions().get(path.suffix.lower())
            if named != _FAMILY.get(str(image.format), image.format):
                found.append("extension of another format")
    except _DECODER_ERRORS as error:
        raise _refusal(path, error) from error
    return found


def _refusal(path: Path, error: Exception) -> ImageError:
    if isinstance(error, UnidentifiedImageError):  # its text is only the address of an object
        return ImageError("not an image of a known format", where=path)
    reason = " ".join(str(error).split()) or type(error).__name__
    return ImageError(f"not a readable image ({reason})", where=path)


def _check(image: Image.Image) -> None:
    """Raise ValueError if the header shows that the image should not be decoded."""
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels exceeds limit {MAX_PIXELS}")
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise ValueError(f"{image.width} x {image.height} pixels, longer than {MAX_ASPECT}:1")
    if image.format == "EPS":
        raise ValueError("PostScript is a program, which is not run")
