"""Options of `caption`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from multispace.fields import Options, argument
from multispace.pipeline.command_options import recurring


@dataclass(frozen=True)
class CaptionOptions(Options):
    """Options of `caption`."""

    run: Path = field(metadata=argument("The run folder.", path="dir"))
    images: Sequence[Path] = field(metadata=argument("The image files.", path="file"))
    weights: str | None = recurring.moved_weights()
    beam: int = recurring.beam()
    checkpoint: str = recurring.checkpoint()
    device: str = recurring.device()
