"""Picture files: their bytes' digest and their pixels."""

import hashlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from data.errors import PictureError

NO_FILE = "no such file"
DECODING = "pillow, exif orientation applied, first frame, rgb"

# What Pillow's decoders raise on damaged files, beside OSError.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    IndexError,
    OverflowError,
    MemoryError,
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
    """Return the picture in RGB, upright, 8 bits a channel.

    :raises PictureError: it is not a whole picture; names ``path`` and the decoder's reason.
    """
    try:
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I;16") or upright.mode == "I":
                # 16-bit grey: convert("RGB") would clip at 255 instead of scaling.
                upright = Image.fromarray((np.asarray(upright) // 257).astype(np.uint8))
            return upright.convert("RGB")
    except _DECODER_ERRORS as error:
        raise PictureError(f"{path}: not a readable picture ({error})") from error
