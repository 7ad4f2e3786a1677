"""Options of `doctor`."""

from dataclasses import dataclass
from pathlib import Path

from multispace.errors import OptionError
from multispace.fields import Options, option


@dataclass(frozen=True)
class DoctorOptions(Options):
    """Options of `doctor`."""

    images: Path | None = option("A folder of images to check.", None, argument=True, path="dir")
    cache: Path = option("Where a cache is to be made.", Path(), path="dir")
    sample: int | None = option(
        "Decode this many of IMAGES, and read only the headers of the others.", None,
        min=1, default_text="decode all",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sample is not None and self.images is None:
            raise OptionError(
                "it needs IMAGES, the folder to check", where=f"--sample {self.sample}"
            )
