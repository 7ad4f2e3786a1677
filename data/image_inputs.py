"""The ways to name an image: a file, a web address, a Pillow image, or an array."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from multispace.data.images import decode, read_bytes, to_rgb
from multispace.data.remote.image_download import fetch_image
from multispace.errors import ImageError, shown

ImageInput = str | os.PathLike[str] | Image.Image | np.ndarray
"""A path, an http(s) URL, a Pillow image of any mode, or a uint8 array (H, W, 3) in RGB."""

ImageSource = Path | str | Image.Image
"""An image input in its normal form: a path, a URL, or an image in memory."""

WEB = ("http://", "https://")


def image_source(image: ImageInput, name: str) -> ImageSource:
    """Return an image input in its normal form. Nothing is read yet.

    :param name: what to call the image in an error message
    :raises ImageError: it is none of the known kinds, or an array of another shape or type.
    """
    if isinstance(image, str) and image.startswith(WEB):
        return image
    if isinstance(image, str) and "://" in image:
        raise ImageError(
            "only http:// and https:// addresses are fetched", where=image, hint="download it first"
        )
    if isinstance(image, str | os.PathLike):
        return Path(image)
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, np.ndarray):
        return _from_array(image, name)
    raise ImageError(
        f"{shown(type(image).__name__)} is not an image",
        where=name,
        hint="give a path, a URL, a Pillow image, or a uint8 array (H, W, 3)",
    )


def read_source(source: ImageSource) -> bytes | Image.Image:
    """Return the bytes of a file or of a web address; an image in memory is returned as it is.

    :raises ImageError: the image cannot be read.
    """
    if isinstance(source, Image.Image):
        return source
    return fetch_image(source) if isinstance(source, str) else read_bytes(source)


def open_source(content: bytes | Image.Image, source: ImageSource) -> Image.Image:
    """Return what :func:`read_source` gave as an upright RGB image.

    :raises ImageError: it is not an image, or exceeds a limit of
        :func:`multispace.data.images.decode`.
    """
    if isinstance(content, bytes):
        return decode(content, str(source))
    return to_rgb(content)


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    if array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ImageError(
            f"array of shape {array.shape}", where=name, hint="give height x width x 3 (RGB)"
        )
    if array.dtype != np.uint8:
        raise ImageError(
            f"array of type {array.dtype}",
            where=name,
            hint="give uint8 from 0 to 255: (255 * array).astype('uint8') if it is 0 to 1",
        )
    return Image.fromarray(np.ascontiguousarray(array))
