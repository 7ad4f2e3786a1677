"""Options of `tune`, beside those of `train`."""

from dataclasses import dataclass
from pathlib import Path

from multispace.fields import Options, option
from multispace.pipeline.command_options.presets import PRESETS

TRIALS, VALIDATIONS = 20, 4
BEST, ALL = "best", "all"
LENGTH = ("epochs", "steps", "validate_every", "patience")  # of `train`; the budget replaces them


@dataclass(frozen=True, kw_only=True)
class TuneRequest(Options):
    """Options of a search. One that is None has its default, or on resuming its old value."""

    trials: int | None = option(
        "Number of trials. The first one has the default options.", None, min=1,
        default_text=str(TRIALS),
    )  # fmt: skip
    budget: int | None = option(
        "Optimizer steps of each trial; required without --resume.", None, min=1, metavar="STEPS"
    )
    validations: int | None = option(
        "Validations of each trial. After each of them a trial ends that is worse than the median "
        "of the earlier trials.", None, min=1, default_text=str(VALIDATIONS),
    )  # fmt: skip
    keep: str | None = option(
        "Trials that keep their checkpoints.", None, choices=(BEST, ALL), default_text=BEST
    )
    config: Path | None = option(
        "Read the options of the first trial from a YAML file, or from the config.json of a run.",
        None, path="file",
    )  # fmt: skip
    preset: str | None = option(
        "A named set of options for the first trial; --config overrides it.", None,
        choices=tuple(PRESETS),
    )  # fmt: skip
    dry_run: bool = option("Only print the values that the search would try.", False)
    resume: bool = option("Continue the search in the run folder.", False)
