"""Options of `report`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from multispace.errors import OptionError
from multispace.fields import Options, argument, option
from multispace.pipeline.command_options import shared_options


@dataclass(frozen=True)
class ReportOptions(Options):
    """Options of `report`."""

    runs: Sequence[Path] = field(metadata=argument("Folders of evaluated runs.", path="dir"))
    out: Path = option("The HTML file to write.", Path("report.html"), path="file")
    split: str = shared_options.split()
    checkpoint: str = shared_options.checkpoints()
    images: Path | None = option(
        "The image folder, to show examples; needs --cache.", None, path="dir"
    )
    cache: Path | str | None = option(
        "The feature cache, to show reference captions.", None, metavar="DIR|URL"
    )
    image_count: int = option("Number of example images.", 8, min=0, flag="--pictures")
    resamples: int = shared_options.resamples()
    seed: int = shared_options.resampling_seed()
    reference: str = shared_options.reference()
    reference_temperature: float = shared_options.reference_temperature()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images is not None and self.cache is None:
            raise OptionError(
                "it needs --cache, which has the file names",
                where=f"--images {self.images}",
            )
