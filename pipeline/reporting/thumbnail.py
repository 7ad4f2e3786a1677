"""Small images inside a page."""

import base64
import io

from PIL import Image, ImageOps

SIDE = 360  # longer side, in pixels
QUALITY = 80  # of the JPEG


def thumbnail(image: Image.Image, side: int = SIDE) -> str:
    """Return an RGB image as a data URI, its longer side at most ``side`` pixels."""
    if max(image.size) > side:
        image = ImageOps.contain(image, (side, side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
