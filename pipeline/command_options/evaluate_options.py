"""Options of `evaluate`."""

from dataclasses import dataclass, field
from pathlib import Path

from multispace.errors import OptionError
from multispace.fields import Options, option, shown_value
from multispace.pipeline.command_options import shared_options
from multispace.pipeline.metrics.captions.metric_names import METRICS

WORDS, LATENTS = "words", "latents"  # of samples: what a curve varies the temperature of


@dataclass(frozen=True)
class EvaluateOptions(Options):
    """Options of `evaluate`."""

    run: Path | str = field(metadata=shared_options.run())
    cache: Path | str | None = shared_options.run_cache()
    split: str = shared_options.split()
    beam: int = shared_options.beam()
    length_penalty: float = option(
        "Exponent of the caption length by which log probabilities are divided.", 0.0
    )
    single_caption: str | None = shared_options.single_caption()
    samples: int = option(
        "Also decode this many captions per image, each from its own draw of the latents, and "
        "measure their diversity.", 0, min=0,
    )  # fmt: skip
    temperature: float = shared_options.temperature()
    top_p: float = shared_options.top_p()
    latent_temperature: float = shared_options.latent_temperature()
    guidance: float = shared_options.guidance()
    curve: tuple[float, ...] = option(
        "Also draw samples at each of these temperatures, and measure quality against diversity.",
        (), min=0, commas=True, metavar="T,...",
    )  # fmt: skip
    curve_of: str = option(
        "Vary the temperature of the words or the latents.", WORDS,
        choices=(WORDS, LATENTS),
    )  # fmt: skip
    sample_meteor: bool = option("Also compute METEOR of samples (slow).", False)
    importance_samples: int = option(
        "Draws per caption for the importance-weighted likelihood; 0 leaves it out.", 5, min=0
    )
    disentanglement: bool = option(
        "Score how dimensions of z hold known factors, which takes half a minute.", True,
        negatable=True,
    )  # fmt: skip
    metrics: tuple[str, ...] = option(
        "The metrics to compute, separated by commas.", METRICS, choices=METRICS, commas=True
    )
    checkpoint: str = shared_options.checkpoint()
    device: str = shared_options.device()
    seed: int = option("Seed of all random draws.", 0, min=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "curve", self._temperatures())
        super().__post_init__()
        if self.samples == 1:
            raise OptionError("it must be 0, or 2 or more to differ", where="--samples 1")
        shared_options.check_words(self, self.single_caption or "consensus", self.curve_of_words)
        if self.curve_of == LATENTS and not (self.curve and self.curve[0] > 0):
            raise OptionError(
                "it needs --curve, with temperatures above 0", where=f"--curve-of {LATENTS}"
            )
        if self.sample_meteor and not (self.samples and "meteor" in self.metrics):
            raise OptionError(
                "it needs --samples, and meteor in --metrics", where="--sample-meteor"
            )
        if self.curve and not self.samples:
            raise OptionError("it needs --samples", where=f"--curve {shown_value(self.curve)}")

    @property
    def curve_of_words(self) -> tuple[float, ...]:
        """The temperatures of the words on the curve."""
        return self.curve if self.curve_of == WORDS else ()

    def _temperatures(self) -> tuple[float, ...]:
        """Return the temperatures of the curve in ascending order."""
        where = f"--curve {shown_value(self.curve)}"
        try:
            temperatures = sorted(map(float, self.curve))
        except (TypeError, ValueError) as error:
            raise OptionError("it must be a list of numbers", where=where) from error
        if len(set(temperatures)) < len(temperatures):
            raise OptionError("give each temperature once", where=where)
        return tuple(temperatures)
