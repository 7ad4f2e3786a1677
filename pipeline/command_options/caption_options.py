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
    images: Sequence[Path | str] = field(metadata=argument("The images: files, or http(s) URLs."))
    weights: str | None = recurring.moved_weights()
    beam: int = recurring.beam()
    checkpoint: str = recurring.checkpoint()
    device: str = recurring.device()
