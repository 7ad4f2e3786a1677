"""Options of `explore`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from multispace.fields import Options, option
from multispace.pipeline.command_options import shared_options


@dataclass(frozen=True)
class ExploreOptions(Options):
    """Options of `explore`."""

    run: Path | str = field(metadata=shared_options.run())
    cache: Path | str | None = shared_options.run_cache()
    split: str = shared_options.split()
    keys: Sequence[str] = option(
        "Key of an image to use; may be repeated.", (),
        flag="--key", metavar="KEY", default_text="the first images",
    )  # fmt: skip
    images: int = option("Number of images if --key is not given.", 3, min=1, flag="--pictures")
    dims: int = option(
        "Number of z dimensions (highest KL first) and of categories per c variable (most "
        "frequent first).", 5,
        min=1,
    )  # fmt: skip
    checkpoint: str = shared_options.checkpoint()
    device: str = shared_options.device()
