"""Declarations of options that several commands have."""

from collections.abc import Sequence
from typing import Any

from multispace.errors import OptionError
from multispace.fields import argument, flag, option
from multispace.model.options import SINGLE_CAPTIONS

BEST, LAST, BOTH = "best", "last", "both"


def run() -> Any:
    """Declare the run whose model a command uses."""
    return argument("The run folder, or the folder or URL of an exported model.")


def run_cache() -> Any:
    """Declare the feature cache of a run, whose ``config.json`` records where it is."""
    return option(
        "The feature cache of the run: a folder or a URL.", None,
        metavar="DIR|URL", default_text="the one that the run records",
    )  # fmt: skip


def split() -> Any:
    """Declare the split that a command reads."""
    return option("The split to use.", "test")


def checkpoint() -> Any:
    """Declare the checkpoint of a run."""
    return option("The checkpoint of the run to use.", BEST, choices=(BEST, LAST))


def checkpoints() -> Any:
    """Declare the checkpoint of several runs."""
    return option(
        "The checkpoint of the runs to use, or both side by side.", BEST, choices=(BEST, LAST, BOTH)
    )


def names() -> Any:
    """Declare the names of groups of runs."""
    return option(
        "Name of a row: RUN is one of its runs, or a pattern such as 'runs/base-*'; may be "
        "repeated.", (), flag="--name", metavar="NAME=RUN", default_text="the options",
    )  # fmt: skip


def check_names(names: Sequence[str]) -> None:
    """Check the form of the names of groups.

    :raises OptionError: one is not NAME=RUN.
    """
    for text in names:
        name, equals, run = text.partition("=")
        if not (name.strip() and equals and run):
            raise OptionError(
                "it must be a name and a run",
                where=f"--name {text}",
                hint="write, for example, --name 'base=runs/base-*'",
            )


def beam() -> Any:
    """Declare the width of the beam search."""
    return option("Beam width; 1 is greedy search.", 5, min=1)


def single_caption() -> Any:
    """Declare how the single caption of an image is made."""
    return option(
        "How single captions are made: from the mode of the latents, with the latents left out, "
        "reranked by samples, or as the consensus of samples or of all categories.", None,
        choices=SINGLE_CAPTIONS, default_text="that of the run",
    )  # fmt: skip


def temperature() -> Any:
    """Declare the temperature of sampled words."""
    return option(
        "Draw the words of samples from the decoder at this temperature; 0 searches with the beam.",
        0.0, min=0,
    )  # fmt: skip


def latent_temperature() -> Any:
    """Declare the temperature of sampled latents."""
    return option(
        "Temperature of sampled latents: factor on the standard deviation of z, and on the "
        "logits of c its inverse.", 1.0,
        exclusive_min=0,
    )  # fmt: skip


def guidance() -> Any:
    """Declare how closely the words of samples follow the latents."""
    return option(
        "How closely samples of joint and joint-cvae follow their latents; 1: as trained.", 1.0,
        exclusive_min=0,
    )  # fmt: skip


def top_p() -> Any:
    """Declare the nucleus of sampled words."""
    return option(
        "Draw words from the most probable ones that have this probability together.", 1.0,
        exclusive_min=0, max=1,
    )  # fmt: skip


def check_words(options: Any, single_caption: str, curve: Sequence[float] = ()) -> None:
    """Check that the options of sampled words have an effect.

    :param single_caption: how single captions are made; a consensus needs samples
    :param curve: further temperatures at which samples are drawn
    :raises OptionError: they have none.
    """
    if not (options.samples or single_caption == "consensus"):
        unused = {"temperature": 0, "latent_temperature": 1, "guidance": 1}
        for name, without_effect in unused.items():
            if (value := getattr(options, name)) != without_effect:
                raise OptionError(
                    "it needs --samples, or --single-caption consensus",
                    where=f"{flag(name)} {value:g}",
                )
    if options.top_p < 1 and not (options.temperature or any(curve)):
        raise OptionError("it needs --temperature", where=f"--top-p {options.top_p}")


def device(**declared: Any) -> Any:
    """Declare the device that computes."""
    return option("Device: auto, cpu, cuda, cuda:1 ...", "auto", metavar="DEVICE", **declared)


def resamples() -> Any:
    """Declare the size of the bootstrap."""
    return option("Number of bootstrap resamples of images and seeds.", 10_000, min=1)


def resampling_seed() -> Any:
    """Declare the seed of the bootstrap."""
    return option("Random seed of the resamples.", 0, min=0)


def reference() -> Any:
    """Declare the group of runs that others are compared with at equal diversity."""
    return option(
        "Compare quality at the diversity of this system, or group of runs, sampled at "
        "--reference-temperature.", "base",
    )  # fmt: skip


def reference_temperature() -> Any:
    """Declare the temperature of the samples whose diversity is the reference."""
    return option("Temperature of the samples of --reference.", 0.4, min=0)


def threads() -> Any:
    """Declare how many files are transferred at once."""
    return option("Number of files transferred at once.", 8, min=1)


def moved_weights() -> Any:
    """Declare the new location of the backbone weights."""
    return option("New location of the backbone weights, if moved.", None)
