"""Options of `caption`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from multispace.errors import OptionError
from multispace.fields import Options, argument, option
from multispace.pipeline.command_options import shared_options


@dataclass(frozen=True)
class CaptionOptions(Options):
    """Options of `caption`."""

    run: Path = field(metadata=argument("The run folder.", path="dir"))
    images: Sequence[Path | str] = field(metadata=argument("The images: files, or http(s) URLs."))
    weights: str | None = shared_options.moved_weights()
    beam: int = shared_options.beam()
    single_caption: str | None = shared_options.single_caption()
    samples: int = option(
        "Print this many captions per image, each from its own draw of the latents.", 0, min=0
    )
    temperature: float = shared_options.temperature()
    top_p: float = shared_options.top_p()
    latent_temperature: float = shared_options.latent_temperature()
    seed: int = option("Seed of all random draws.", 0, min=0)
    cache: Path | str | None = option(
        "The feature cache of the run, whose training captions a consensus needs.", None,
        metavar="DIR|URL", default_text="the one that the run records",
    )  # fmt: skip
    checkpoint: str = shared_options.checkpoint()
    device: str = shared_options.device()

    def __post_init__(self) -> None:
        super().__post_init__()
        shared_options.check_words(self, self.single_caption or "consensus")
        if self.samples and self.single_caption:
            raise OptionError("give one of them", where="--samples and --single-caption")
