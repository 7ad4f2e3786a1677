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

    run: Path | str = field(metadata=shared_options.run())
    images: Sequence[Path | str] = field(
        metadata=argument("The images: files, folders, patterns such as 'a/*.jpg', http(s) URLs.")
    )
    weights: str | None = shared_options.moved_weights()
    beam: int = shared_options.beam()
    single_caption: str | None = shared_options.single_caption()
    samples: int = option(
        "Print this many captions per image, each from its own draw of the latents.", 0, min=0
    )
    consensus: bool = option(
        "The same as --single-caption consensus; --samples is then the number of candidates.", False
    )
    temperature: float = shared_options.temperature()
    top_p: float = shared_options.top_p()
    latent_temperature: float = shared_options.latent_temperature()
    guidance: float = shared_options.guidance()
    seed: int = option("Seed of all random draws.", 0, min=0)
    cache: Path | str | None = option(
        "The feature cache of the run, whose training captions a consensus needs.", None,
        metavar="DIR|URL", default_text="the one that the run records",
    )  # fmt: skip
    checkpoint: str = shared_options.checkpoint()
    device: str = shared_options.device()
    out: Path | None = option(
        "Write the captions to a JSON file in COCO results format.", None, path="file"
    )
    html: Path | None = option(
        "Write a page with the images and their captions.", None, path="file"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.consensus and self.single_caption not in (None, "consensus"):
            raise OptionError(
                "give one of them", where=f"--consensus and --single-caption {self.single_caption}"
            )
        shared_options.check_words(self, self.way or "consensus")
        if self.samples and self.single_caption:
            raise OptionError(
                "give one of them",
                where="--samples and --single-caption",
                hint="--consensus chooses among --samples captions",
            )
        if self.out is not None and self.samples and not self.consensus:
            raise OptionError(
                "the format has one caption per image",
                where=f"--out {self.out} and --samples {self.samples}",
                hint="add --consensus, or print the samples with --json",
            )
        if self.out is not None and self.out == self.html:
            raise OptionError("they are the same file", where=f"--out and --html {self.html}")

    @property
    def way(self) -> str | None:
        """How single captions are made; None means as the run was trained for."""
        return "consensus" if self.consensus else self.single_caption
