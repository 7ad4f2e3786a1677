"""Options of `app`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from multispace.errors import OptionError
from multispace.fields import Options, argument, option
from multispace.pipeline.command_options import shared_options

MAX_RUNS = 8  # side by side


@dataclass(frozen=True)
class AppOptions(Options):
    """Options of `app`."""

    runs: Sequence[Path | str] = field(
        metadata=argument("Run folders, or folders or URLs of exported models.")
    )
    images: Path | None = option("The image folder, to show the images.", None, path="dir")
    cache: Path | str | None = option(
        "The feature cache of the runs: a folder or a URL.", None,
        metavar="DIR|URL", default_text="the one that each run records",
    )  # fmt: skip
    split: str = shared_options.split()
    dims: int = option("Number of z sliders per system, highest KL first.", 4, min=0, max=16)
    port: int = option(
        "Port of the page on this machine; 0 takes a free one.", 7860, min=0, max=65535
    )
    weights: str | None = shared_options.moved_weights()
    checkpoint: str = shared_options.checkpoint()
    device: str = shared_options.device()

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.runs) > MAX_RUNS:
            raise OptionError(
                f"{len(self.runs)} runs do not fit side by side",
                where="RUNS",
                hint=f"give at most {MAX_RUNS}",
            )
