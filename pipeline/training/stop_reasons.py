"""Failures that stop a training run, each reported in one line that says what is kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from multispace.errors import PipelineError
from multispace.exhaustion import is_out_of_memory
from multispace.pipeline.runs.checkpoint import has_checkpoint
from multispace.pipeline.runs.run_folder import LAST
from multispace.pipeline.training.distributed import ProcessGroup


@contextmanager
def reported_lack_of_memory(run: Path, activity: Callable[[], str]) -> Iterator[None]:
    """Report lack of memory as an error with a hint.

    :param activity: returns what the training was doing, for the message
    :raises PipelineError: in place of the error of torch or Python.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise PipelineError(
            f"out of memory {activity()}; {_kept(run)}",
            where=run,
            hint="free memory, or train a smaller model or with a smaller --batch-size",
        ) from error


@contextmanager
def reported_lost_process(
    run: Path, group: ProcessGroup, step: Callable[[], int], save: Callable[[], None]
) -> Iterator[None]:
    """Save a checkpoint and report it where another process of the group has ended.

    :param step: returns how many optimizer steps are done
    :param save: saves a checkpoint
    :raises PipelineError: in place of the network's error.
    """
    try:
        yield
    except RuntimeError as error:
        if not group.is_lost_process(error):
            raise
        if group.is_main:  # processes meet before the weights change: they are of a whole step
            save()
        raise PipelineError(
            f"another of the {group.size} processes ended in step {step()}; {_kept(run)}",
            where=run,
            hint="run the same command with --resume",
        ) from error


def _kept(run: Path) -> str:
    last = run / LAST
    return f"{last} is kept" if has_checkpoint(last) else "there is no checkpoint yet"
