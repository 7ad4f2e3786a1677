"""Images as arguments of a Python call."""

import os
from typing import Any

import numpy as np
from PIL import Image

from multispace.data.image_inputs import ImageSource, image_source
from multispace.errors import OptionError


def named_sources(images: Any) -> tuple[dict[str, ImageSource], list[str]]:
    """Return each image once, by a name for messages, and the name of each that was given."""
    if isinstance(images, str | os.PathLike | Image.Image):
        raise OptionError("images is one image", hint="give a list: [image]")
    if isinstance(images, np.ndarray) and images.ndim == 3:
        raise OptionError("images is one array (H, W, 3)", hint="give a list: [array]")
    sources: dict[str, ImageSource] = {}
    names: list[str] = []
    known: dict[int, str] = {}  # by identity
    given = list(images)
    for number, image in enumerate(given):
        source = image_source(image, f"images[{number}]")
        own = f"images[{number}]" if isinstance(source, Image.Image) else str(source)
        name = known.setdefault(id(image), own)  # the same image twice is read once
        sources.setdefault(name, source)
        names.append(name)
    return sources, names
