"""Options of `demo`."""

from dataclasses import dataclass, field
from pathlib import Path

from multispace.fields import Options, option, required


@dataclass(frozen=True)
class DemoOptions(Options):
    """Options of `demo`."""

    out: Path = field(metadata=required("The folder to create.", path="dir"))
    seed: int = option("Random seed of the images and of training.", 0, min=0)
