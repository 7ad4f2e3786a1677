"""Group evaluated runs that differ in their seed alone, and name each group by its options."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from multispace.errors import PipelineError, shown
from multispace.fields import default_of, option_words
from multispace.model.options import is_used
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.runs.evaluation_folder import Record, Request
from multispace.pipeline.runs.evaluation_reader import (
    Scored,
    find_evaluation,
    is_evaluation,
    read_evaluation,
)
from multispace.pipeline.runs.run_folder import CONFIG, read_run_config

SAME = {  # what all runs of a table must share: fields of the record, and their names
    "pictures_digest": "test images",
    "references_digest": "references",
    "vocabulary_digest": "vocabulary",
}
# Options that make no difference to what a run is: its place, its device, how often it reports.
INCIDENTAL = ("system", "run", "cache", "seed", "device", "log_every", "save_every")
SAMPLING = "sampling"  # the option of a run that tells how its samples were drawn
# Options of an evaluation that make its group, beside those of its run.
SEARCH = {
    name: getattr(Request, name) for name in ("checkpoint", "beam", "length_penalty", "curve_of")
}


@dataclass(frozen=True)
class EvaluatedRun:
    """A run with its evaluation; ``options`` are those that make its group."""

    folder: Path
    seed: int
    system: str
    options: dict[str, Any]
    scored: Scored


def read_run(folder: Path, split: str, checkpoint: str) -> EvaluatedRun:
    """Read a run's options and its evaluation.

    :param folder: of the run, whose fullest evaluation is read; or of one of its evaluations
    :raises PipelineError: it is not a run, or it is not evaluated on the split.
    """
    evaluation = folder
    if is_evaluation(folder):
        folder = folder.parent.parent
    else:
        evaluation = find_evaluation(folder, split, checkpoint)
    config = read_run_config(folder)
    scored = read_evaluation(evaluation, split, checkpoint)
    record = scored.record
    options = {**_defaults(record.system), **config["options"]}
    search = {name: getattr(record, name) for name in SEARCH}
    kept = {
        name: value
        for name, value in options.items()
        if name not in INCIDENTAL and is_used(name, record.system)
    }
    search["single_caption"] = record.captions_from
    made = {**kept, **search, SAMPLING: how_sampled(record), "features": record.fingerprint[:12]}
    return EvaluatedRun(folder, _seed(options, folder), record.system, made, scored)


def how_sampled(record: Record) -> str | None:
    """Return how samples were drawn, or None for latents as they are and a beam for the words."""
    draws = []
    if record.temperature:
        draws.append(f"words at temperature {record.temperature:g}")
    if record.top_p < 1:
        draws.append(f"top-p {record.top_p:g}")
    if record.latent_temperature != 1:
        draws.append(f"latents at temperature {record.latent_temperature:g}")
    if record.guidance != 1:
        draws.append(f"guidance {record.guidance:g}")
    return ", ".join(draws) or None


def _seed(options: Mapping[str, Any], folder: Path) -> int:
    seed = options.get("seed")
    if type(seed) is not int:
        raise PipelineError(
            f"options.seed is {shown(seed)}, expected a whole number",
            where=folder / CONFIG,
            hint="restore the run",
        )
    return seed


def _defaults(system: str) -> dict[str, Any]:
    """Return the defaults of every option in ``system``, as they come out of a ``config.json``."""
    known = {
        f.name: default_of(f, system) for f in fields(TrainOptions) if f.default is not MISSING
    }
    return {n: list(v) if isinstance(v, tuple) else v for n, v in (known | SEARCH).items()}


def check_same(runs: Sequence[EvaluatedRun]) -> None:
    """Refuse runs whose scores do not compare.

    :raises PipelineError: names two of them and what they do not share.
    """
    first = runs[0].scored
    for other in (run.scored for run in runs[1:]):
        for name, what in SAME.items():
            one, two = getattr(first.record, name), getattr(other.record, name)
            if one != two:
                raise PipelineError(
                    f"they do not share their {what} ({one[:12]}, {first.record.images} images; "
                    f"{two[:12]}, {other.record.images} images)",
                    where=f"{first.folder} and {other.folder}",
                    hint="compare them in two tables",
                )


def grouped(runs: Sequence[EvaluatedRun]) -> dict[str, list[EvaluatedRun]]:
    """Return the runs by the name of their group.

    The name is the system, followed by the options that differ among the runs of that system and
    those that differ both among all runs and from their default. The temperature of samples is left
    out for a run with a curve, which has samples at several temperatures.

    :raises PipelineError: two runs have the same options and the same seed.
    """
    shared = _names(runs, lambda values: len(set(values)) == 1)
    groups: dict[str, list[EvaluatedRun]] = {}
    for run in runs:
        defaults = _defaults(run.system)
        siblings = [other for other in runs if other.system == run.system]
        differing = _names(siblings, lambda values: len(set(values)) > 1)
        named = [
            _words(option, value)
            for option, value in run.options.items()
            if option in differing
            or (
                option not in shared
                and value != defaults.get(option)
                and not (option == SAMPLING and _only_temperature(run.scored))
            )
        ]
        groups.setdefault(" ".join([run.system, *filter(None, named)]), []).append(run)
    for name, members in groups.items():
        seeds = [run.seed for run in members]
        for run in members:
            if seeds.count(run.seed) > 1:
                both = " and ".join(str(r.folder) for r in members if r.seed == run.seed)
                raise PipelineError(
                    f"both are {name} of seed {run.seed}", where=both, hint="give each run once"
                )
    return groups


def _only_temperature(scored: Scored) -> bool:
    """Return whether a run has a curve, and its samples have defaults but for the temperature."""
    return (
        scored.curve is not None
        and not {"top_p", "latent_temperature", "guidance"} & scored.record.changes().keys()
    )


def shared_options(runs: Sequence[EvaluatedRun]) -> str:
    """Return the options that all runs share and that are not the defaults."""
    defaults = _defaults(runs[0].system)
    shared = _names(runs, lambda values: len(set(values)) == 1)
    options = runs[0].options
    named = [n for n in options if n in shared and n in defaults and options[n] != defaults[n]]
    return " ".join(filter(None, (_words(name, options[name]) for name in named)))


def _names(runs: Sequence[EvaluatedRun], test: Callable[[list[str]], bool]) -> set[str]:
    names = {name for run in runs for name in run.options}
    return {name for name in names if test([repr(run.options.get(name)) for run in runs])}


def _words(option: str, value: Any) -> str:
    if value is None:
        return ""
    if option == SAMPLING:
        return f"sampling {value}"
    return f"features {value}" if option == "features" else " ".join(option_words(option, value))
