"""Small images inside a page."""

import base64
import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image, ImageOps

from multispace.data.images import decode, read_bytes
from multispace.errors import ImageError

SIDE = 360  # longer side, in pixels
QUALITY = 80  # of the JPEG
SIDES = (360, 280, 220, 180, 150, 120, 96, 72, 48)  # longer sides that are tried, in pixels
PROBED = 24  # images that tell which thumbnails fit a budget
RESERVE = 0.1  # of a budget: the other images may be larger than those


def small_image(path: Path, side: int = SIDE) -> Image.Image:
    """Return the RGB image of a file, its longer side at most ``side`` pixels.

    :raises ImageError: it cannot be read.
    """
    return _shrunk(decode(read_bytes(path), path), side)


def thumbnail(image: Image.Image, side: int = SIDE) -> str:
    """Return an RGB image as a data URI, its longer side at most ``side`` pixels."""
    file = io.BytesIO()
    _shrunk(image, side).save(file, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def fitting_side(paths: Sequence[Path], budget: int) -> int:
    """Return the longest side at which the thumbnails of all images fit a budget.

    :param budget: characters of all data URIs together
    """
    probed = []
    for path in paths[:: max(len(paths) // PROBED, 1)]:
        with suppress(ImageError):  # reported by those who show the image
            probed.append(small_image(path))
    for side in SIDES:
        size = sum(len(thumbnail(image, side)) for image in probed) / max(len(probed), 1)
        if size * len(paths) < (1 - RESERVE) * budget:
            return side
    return SIDES[-1]


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    return ImageOps.contain(image, (side, side)) if max(image.size) > side else image
