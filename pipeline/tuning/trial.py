"""One trial of a search: an ordinary run, which ends early if it is poor."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multispace.errors import NotFiniteError
from multispace.pipeline.runs.checkpoint import remove_checkpoint
from multispace.pipeline.runs.run_folder import BEST, LAST
from multispace.pipeline.train import train
from multispace.pipeline.training.metrics_log import METRICS, read_log
from multispace.pipeline.tuning.search import Search
from multispace.pipeline.tuning.study import COMPLETE, FAILED, PRUNED, FinishedTrial, Study


@dataclass(frozen=True)
class StoppedTrial:
    """A trial that a signal ended. It is not finished; its checkpoint is saved.

    :param signal: the name of the signal
    """

    signal: str


def run_trial(
    search: Search, study: Study, number: int, parameters: Mapping[str, Any]
) -> FinishedTrial | StoppedTrial:
    """Train a trial, or continue it if it was interrupted.

    :param parameters: that the study suggests
    :raises Error: the training fails for a reason that is not the fault of the trial's options.
    """
    options = search.options(parameters, number)
    select = options.select
    validations = recorded_validations(options.run, select)

    def goes_on(step: int, numbers: Mapping[str, float]) -> bool:
        validations[step] = numbers[select]
        return step == search.budget or not study.is_poor(parameters, validations)

    def finished(state: str, reason: str | None = None) -> FinishedTrial:
        best = min if select == "loss" else max
        value = None if state == FAILED else best(validations.values())
        return FinishedTrial(number, state, value, parameters, validations, reason)

    last = max(validations, default=None)
    if last is not None and not goes_on(last, {select: validations[last]}):
        return finished(PRUNED)  # it was interrupted between this decision and its record
    try:
        trained = train(options, resume=True, observe=goes_on)
    except NotFiniteError as error:
        return finished(FAILED, error.what)
    if trained.stopped:
        return StoppedTrial(trained.stopped)
    return finished(COMPLETE if trained.steps == search.budget else PRUNED)


def recorded_validations(run: Path, select: str) -> dict[int, float]:
    """Return the validation scores that a run has logged, by step.

    :param select: the name of the score
    """
    lines = [line for line in read_log(run / METRICS) if line["split"] == "val"]
    return {line["step"]: line[select] for line in lines}


def remove_checkpoints(run: Path) -> None:
    """Remove the checkpoints of a trial, and no other files."""
    for name in (LAST, BEST):
        folder = (run / name).parent
        if not folder.is_symlink():
            remove_checkpoint(run / name)
            with suppress(OSError):  # it is not there, or not empty
                folder.rmdir()
