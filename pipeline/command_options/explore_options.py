"""Options of `explore`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from multispace.fields import Options, argument, option
from multispace.pipeline.command_options import recurring


@dataclass(frozen=True)
class ExploreOptions(Options):
    """Options of `explore`."""

    run: Path = field(metadata=argument("The run folder.", path="dir"))
    cache: Path | str = field(metadata=recurring.cache())
    split: str = recurring.split()
    keys: Sequence[str] = option(
        "The key of an image to use; may be repeated.", (),
        flag="--key", metavar="KEY", default_text="the first images",
    )  # fmt: skip
    images: int = option("Number of images, without --key.", 3, min=1, flag="--pictures")
    dims: int = option(
        "Number of dimensions of z, by KL, and of categories per variable of c, by frequency.", 5,
        min=1,
    )  # fmt: skip
    checkpoint: str = recurring.checkpoint()
    device: str = recurring.device()
