"""Options of `shapes`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from multispace.fields import Options, argument, option


@dataclass(frozen=True)
class ShapesOptions(Options):
    """Options of `shapes`."""

    out: Path = field(metadata=argument("The folder to create.", path="dir"))
    images: int = option("Total number of images, over all splits.", 2000, min=10)
    seed: int = option("Random seed of the generator.", 0)
    hold_out: Sequence[str] = option(
        'Combination to remove from the training split, such as "red circle"; may be repeated.',
        (), metavar="TEXT",
    )  # fmt: skip
    captions: str = option(
        "What captions say: open ones choose which objects and attributes to name; full ones all "
        "name the main object first, with its color and shape.", "open",
        choices=("open", "full"),
    )  # fmt: skip
