"""Options of `report`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from multispace.fields import Options, argument, option
from multispace.pipeline.command_options import shared_options


@dataclass(frozen=True)
class ReportOptions(Options):
    """Options of `report`."""

    runs: Sequence[Path] = field(metadata=argument("Folders of evaluated runs.", path="dir"))
    out: Path = option("The HTML file to write.", Path("report.html"), path="file")
    split: str = shared_options.split()
    checkpoint: str = shared_options.checkpoints()
    names: Sequence[str] = shared_options.names()
    images: Path | None = option("The image folder, to show the gallery.", None, path="dir")
    cache: Path | str | None = option(
        "The feature cache, which has the reference captions and the names of the images.", None,
        metavar="DIR|URL", default_text="the one that the first run records",
    )  # fmt: skip
    image_count: int | None = option(
        "Maximum number of images in the gallery.", None, min=0, flag="--pictures",
        default_text="all images of the split",
    )  # fmt: skip
    resamples: int = shared_options.resamples()
    seed: int = shared_options.resampling_seed()
    reference: str = shared_options.reference()
    reference_temperature: float = shared_options.reference_temperature()

    def __post_init__(self) -> None:
        super().__post_init__()
        shared_options.check_names(self.names)
