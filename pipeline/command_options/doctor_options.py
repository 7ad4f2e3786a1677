"""Options of `doctor`."""

from dataclasses import dataclass
from pathlib import Path

from multispace.errors import OptionError
from multispace.fields import Options, option


@dataclass(frozen=True)
class DoctorOptions(Options):
    """Options of `doctor`."""

    images: Path | None = option("A folder of images to check.", None, argument=True, path="dir")
    cache: Path = option(
        "Folder where a cache will be created (checks free space and write access there).",
        Path(), path="dir",
    )  # fmt: skip
    sample: int | None = option(
        "Number of IMAGES to decode; of the others, only the headers are read.", None,
        min=1, default_text="decode all",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sample is not None and self.images is None:
            raise OptionError(
                "it needs IMAGES, the folder to check", where=f"--sample {self.sample}"
            )
