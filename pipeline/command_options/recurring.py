"""Declarations of options that several commands have."""

from typing import Any

from multispace.fields import option, required

BEST, LAST, BOTH = "best", "last", "both"


def cache() -> Any:
    """Declare the feature cache that a command reads."""
    return required("The feature cache: a folder or a URL.", metavar="DIR|URL")


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


def beam() -> Any:
    """Declare the width of the beam search."""
    return option("Beam width; 1 is greedy search.", 5, min=1)


def device(**declared: Any) -> Any:
    """Declare the device that computes."""
    return option("Device: auto, cpu, cuda, cuda:1 ...", "auto", metavar="DEVICE", **declared)


def resamples() -> Any:
    """Declare the size of the bootstrap."""
    return option("Number of bootstrap resamples of images and seeds.", 10_000, min=1)


def resampling_seed() -> Any:
    """Declare the seed of the bootstrap."""
    return option("Random seed of the resamples.", 0, min=0)


def threads() -> Any:
    """Declare how many files are transferred at once."""
    return option("Number of files transferred at once.", 8, min=1)


def moved_weights() -> Any:
    """Declare the new location of the backbone weights."""
    return option("New location of the backbone weights, if moved.", None)
