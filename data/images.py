"""Image files: their bytes, the digest of the bytes, and their pixels."""

import hashlib
import io
import warnings
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from multispace.data.files import read_file
from multispace.data.image_formats import is_heif, quiet_libtiff, register_heif, without_png_text
from multispace.errors import DataError, ImageError

NO_FILE = "no such file"
MAX_BYTES = 1 << 30  # of an image file
MAX_PIXELS = 89_478_485  # a quarter of a gigabyte of RGB; Pillow has the same limit
MAX_ASPECT = 100  # enlarging the shorter side of a thin strip would need unbounded memory
DECODING = "pillow, exif orientation applied, first frame, rgb"

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

# EXIF 2.32, tag 274: how to turn an image upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Decoders warn about damage that either makes an image fail, which is reported, or does not matter.
# Pillow also warns above its limit of pixels; _check refuses such images.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@cache
def image_suffixes() -> frozenset[str]:
    """Return the suffixes of image files, such as ".jpg", that Pillow can read."""
    suffixes = Image.registered_extensions()  # also fills Image.OPEN
    return frozenset(suffix for suffix, format in suffixes.items() if format in Image.OPEN)


def has_image_suffix(name: str) -> bool:
    """Return whether a file name has a suffix of image files, in upper or lower case."""
    return PurePosixPath(name).suffix.lower() in image_suffixes()


def read_bytes(path: Path) -> bytes:
    """Return the bytes of an image file.

    :raises ImageError: the file is missing, empty, not a plain file, or cannot be read.
    """
    try:
        content = read_file(path, MAX_BYTES)
    except FileNotFoundError:
        raise ImageError(NO_FILE, where=path) from None
    except OSError as error:
        raise ImageError(error.strerror or str(error), where=path) from error
    except DataError as error:
        raise ImageError(error.what, where=path) from error
    if not content:
        raise ImageError("empty file", where=path)
    return content


def digest(content: bytes) -> bytes:
    """Return the SHA-256 (32 bytes) of the content of an image file."""
    return hashlib.sha256(content).digest()


def decode(content: bytes, path: Path | str) -> Image.Image:
    """Return the first frame in RGB, upright, with 8 bits per channel and no transparency.

    :param path: names the image in errors
    :raises ImageError: the content is not a complete image, or exceeds ``MAX_PIXELS`` or
        ``MAX_ASPECT``.
    """
    try:
        with _opened(content) as image:
            _check(image)
            image.load()
            return _rgb(_upright(image))
    except Exception as error:
        raise _refusal(content, path, error) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image in memory in the form that :func:`decode` gives a file.

    :raises ImageError: it cannot be loaded, or exceeds a limit of :func:`decode`.
    """
    try:
        _check(image)
        image.load()
        return _rgb(_upright(image))
    except Exception as error:
        raise _refusal(b"", None, error) from error


def conversions(content: bytes, path: Path) -> list[str]:
    """Return the conversions that :func:`decode` applies, from the header; none for plain RGB.

    :param path: names the image in errors, and its extension is compared with the format
    :raises ImageError: the header shows that the image cannot be decoded.
    """
    found = []
    try:
        with _opened(content) as image:
            _check(image)
            if image.mode != "RGB":
                found.append(_CONVERSIONS.get(image.mode, f"mode {image.mode} to RGB"))
            if getattr(image, "is_animated", False):
                found.append("first frame of several")
            if _orientation(image) in _UPRIGHT:
                found.append("turned upright by EXIF")
            format = Image.registered_extensions().get(path.suffix.lower())
            if format != _FAMILY.get(str(image.format), image.format):
                found.append("extension of another format")
    except Exception as error:
        raise _refusal(content, path, error) from error
    return found


def _opened(content: bytes) -> Image.Image:
    """Open an image; of a PNG with text or a profile that Pillow refuses, only the pixels."""
    try:
        image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        if not register_heif(content):
            raise
        image = Image.open(io.BytesIO(content))
    except ValueError:
        plain = without_png_text(content)
        if plain is None:
            raise
        image = Image.open(io.BytesIO(plain))
    if image.format == "TIFF":
        quiet_libtiff()
    return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is unknown")
    if image.mode.startswith("I"):
        # 16-bit grey: convert("RGB") would clip at 255 instead of scaling.
        pixels = np.asarray(image).clip(0, 65535) // 257
        image = Image.fromarray(pixels.astype(np.uint8))
    if image.mode == "P":
        image = image.convert("RGBA")  # Pillow warns about a direct conversion to RGB
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    orientation = _orientation(image)
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1, which is upright, if the EXIF data are damaged."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 (the pixels are good, whatever is wrong with EXIF)
        return 1


def _refusal(content: bytes, path: Path | str | None, error: Exception) -> ImageError:
    if isinstance(error, UnidentifiedImageError):  # its text is only the address of an object
        if is_heif(content):
            return ImageError("HEIC image", where=path, hint="pip install pillow-heif")
        return ImageError("not an image of a known format", where=path)
    reason = " ".join(str(error).split()) or type(error).__name__
    return ImageError(f"not a readable image ({reason})", where=path)


def _check(image: Image.Image) -> None:
    """Raise ValueError if the header shows that the image should not be decoded."""
    if not min(image.size):
        raise ValueError(f"{image.width} x {image.height} pixels")
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels exceeds limit {MAX_PIXELS}")
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise ValueError(f"{image.width} x {image.height} pixels, longer than {MAX_ASPECT}:1")
    if image.format == "EPS":
        raise ValueError("PostScript is a program, which is not run")
