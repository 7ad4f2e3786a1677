"""Picture files: their bytes' digest and their pixels."""

import hashlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from multispace.errors import PictureError

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
_FAMILY = {"MPO": "JPEG"}  # a JPEG with a second picture

# Pillow warns above the limit and refuses above its double; here the limit itself holds.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_bytes(path: Path) -> bytes:
    """Return the file's bytes.

    :raises PictureError: it is missing, empty, or cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise PictureError(f"{path}: {NO_FILE}") from None
    except OSError as error:
        raise PictureError(f"{path}: {error.strerror or error}") from error
    if not content:
        raise PictureError(f"{path}: empty file")
    return content


def digest(content: bytes) -> bytes:
    """Return the 32 bytes of the SHA-256 of a picture file."""
    return hashlib.sha256(content).digest()


def decode(content: bytes, path: Path) -> Image.Image:
    """Return the first frame in RGB, upright, 8 bits a channel; transparency is left out.

    :raises PictureError: it is not a whole picture, or beyond ``MAX_PIXELS`` or
        ``MAX_ASPECT``; names ``path`` and the reason.
    """
    try:
        with Image.open(io.BytesIO(content)) as picture:
            _check(picture)
            picture.load()
            upright = ImageOps.exif_transpose(picture)
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
    """Say from its header what :func:`decode` changes about a picture; nothing of an RGB one.

    :raises PictureError: the header already shows that it cannot be decoded.
    """
    found = []
    try:
        with Image.open(io.BytesIO(content)) as picture:
            _check(picture)
            if picture.mode != "RGB":
                found.append(_CONVERTED.get(picture.mode, f"mode {picture.mode} to RGB"))
            if getattr(picture, "is_animated", False):
                found.append("first frame of several")
            if picture.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
                found.append("turned upright by EXIF")
            named = Image.registered_extensions().get(path.suffix.lower())
            if named != _FAMILY.get(str(picture.format), picture.format):
                found.append("extension of another format")
    except _DECODER_ERRORS as error:
        raise _refusal(path, error) from error
    return found


def _refusal(path: Path, error: Exception) -> PictureError:
    if isinstance(error, UnidentifiedImageError):  # its text names only an object's address
        return PictureError(f"{path}: not a picture of a known format")
    reason = " ".join(str(error).split()) or type(error).__name__
    return PictureError(f"{path}: not a readable picture ({reason})")


def _check(picture: Image.Image) -> None:
    """Refuse by the header what should not be decoded."""
    if picture.width * picture.height > MAX_PIXELS:
        raise ValueError(f"{picture.width} x {picture.height} pixels exceeds limit {MAX_PIXELS}")
    if max(picture.size) > MAX_ASPECT * min(picture.size):
        raise ValueError(f"{picture.width} x {picture.height} pixels, longer than {MAX_ASPECT}:1")
    if picture.format == "EPS":
        raise ValueError("PostScript, a program that Pillow would have another run")
