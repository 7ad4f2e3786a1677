"""Picture files: their bytes' digest and their pixels."""

import hashlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from multispace.errors import ImageError

NO_FILE = "no such file"
MAX_PIXELS = 89_478_485  # a quarter of a gigabyte of RGB, which is Pillow's own measure
MAX_ASPECT = 100  # a strip would grow without bound when its shorter side is enlarged
DECODING = "pillow, exif orientation applied, first frame, rgb"

# What Pillow's decoders raise on damaged files: found by altering files of sixteen formats.
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

_CONVERTED = {
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

# Pillow warns above the limit and refuses above its double; here the limit itself holds.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_bytes(path: Path) -> bytes:
    """Return the file's bytes.

    :raises PictureError: it is missing, empty, or cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path}: {NO_FILE}") from None
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}") from error
    if not content:
        raise ImageError(f"{path}: empty file")
    return content


def digest(content: bytes) -> bytes:
    """Return the 32 bytes of the SHA-256 of an image file."""
    return hashlib.sha256(content).digest()


def decode(content: bytes, path: Path) -> Image.Image:
    """Return the first frame in RGB, upright, 8 bits a channel; transparency is left out.

    :raises PictureError: it is not a whole image, or beyond ``MAX_PIXELS`` or
        ``MAX_ASPECT``; names ``path`` and the reason.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            _check(image)
            image.load()
            upright = ImageOps.exif_transpose(image)
            if upright.mode == "F":
                raise ValueError("floating-point pixels, which have no range of their own")
            if upright.mode.startswith("I"):
                # 16-bit grey: convert("RGB") would clip at 255 instead of scaling.
                pixels = np.asarray(upright).clip(0, 65535) // 257
                upright = Image.fromarray(pixels.astype(np.uint8))
            if upright.mode == "P":
                upright = upright.convert("RGBA")  # Pillow warns on the direct way
            return upright.convert("RGB")
    except _DECODER_ERRORS as error:
        raise _refusal(path, error) from error


def kinds(content: bytes, path: Path) -> list[str]:
    """Say from its header what :func:`decode` changes about an image; nothing of an RGB one.

    :raises PictureError: the header already shows that it cannot be decoded.
    """
    found = []
    try:
        with Image.open(io.BytesIO(content)) as image:
            _check(image)
            if image.mode != "RGB":
                found.append(_CONVERTED.get(image.mode, f"mode {image.mode} to RGB"))
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
    if isinstance(error, UnidentifiedImageError):  # its text names only an object's address
        return ImageError(f"{path}: not an image of a known format")
    reason = " ".join(str(error).split()) or type(error).__name__
    return ImageError(f"{path}: not a readable image ({reason})")


def _check(image: Image.Image) -> None:
    """Refuse by the header what should not be decoded."""
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels exceeds limit {MAX_PIXELS}")
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise ValueError(f"{image.width} x {image.height} pixels, longer than {MAX_ASPECT}:1")
    if image.format == "EPS":
        raise ValueError("PostScript, a program that Pillow would have another run")
