"""Picture files: their bytes' digest and their pixels."""

import hashlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data.errors import PictureError

NO_FILE = "no such file"
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

    :raises PictureError: it is not a whole picture; names ``path`` and the decoder's reason.
    """
    try:
        with Image.open(io.BytesIO(content)) as picture:
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
    except UnidentifiedImageError:  # its own text names no reason but an object's address
        raise PictureError(f"{path}: not a picture of a known format") from None
    except _DECODER_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PictureError(f"{path}: not a readable picture ({reason})") from error
