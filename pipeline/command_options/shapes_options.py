"""Options of `shapes`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from multispace.fields import Options, argument, option


@dataclass(frozen=True)
class ShapesOptions(Options):
    """Options of `shapes`."""

    out: Path = field(metadata=argument("The folder to make.", path="dir"))
    images: int = option("Number of images in all splits together.", 2000, min=10)
    seed: int = option("Seed of the generator.", 0)
    hold_out: Sequence[str] = option(
        'A combination to keep out of the training split, such as "red circle"; may be repeated.',
        (), metavar="TEXT",
    )  # fmt: skip
