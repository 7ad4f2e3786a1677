"""The second stage: fit a system to a cache."""

import shlex
import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.console.table import text_table
from multispace.pipeline.training.context import Observer, Training
from multispace.pipeline.training.distributed import ProcessGroup, join_process_group
from multispace.pipeline.training.interrupts import StopRequest
from multispace.pipeline.training.loop import fit, setup
from multispace.pipeline.training.stop_reasons import reported_lack_of_memory
from multispace.pipeline.training.wandb_run import Tracking, follow, load_wandb


@dataclass(frozen=True)
class Trained:
    """Result of a training run.

    :param selected_by: the validation metric that chose the best checkpoint
    :param best: its value; None without validation
    :param seconds: of this command, and ``tokens_per_second`` of its training steps alone
    :param validation: numbers of the last validation
    :param stopped: name of the signal that ended the training early, if one did
    """

    run: str
    system: str
    steps: int
    best_step: int
    selected_by: str
    best: float | None
    parameters: int
    seconds: float
    tokens_per_second: float
    validation: Mapping[str, float] = field(default_factory=dict)
    stopped: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def render(self) -> str:
        """Return a table."""
        best = "-" if self.best is None else f"{self.best:.3f}"
        return text_table(
            ["system", "parameters", "steps", "best step", self.selected_by, "tokens/s", "s"],
            [[self.system, self.parameters, self.steps, self.best_step, best,
              f"{self.tokens_per_second:.0f}", f"{self.seconds:.0f}"]],
        )  # fmt: skip

    @property
    def exit_status(self) -> int:
        """128 + the number of the signal that ended the training early, if one did."""
        return 128 + signal.Signals[self.stopped] if self.stopped else 0

    def messages(self) -> list[str]:
        """Return how to continue a training that a signal ended early."""
        if self.stopped is None:
            return []
        run = shlex.quote(self.run)
        return [
            f"stopped by {self.stopped} after step {self.steps}; the checkpoint is saved; "
            f"continue with: multispace train --run {run} --resume"
        ]


def train(
    options: TrainOptions,
    resume: bool = False,
    *,
    observe: Observer | None = None,
    tracking: Tracking | None = None,
) -> Trained:
    """Fit a system and write a run folder.

    Under `torchrun` the processes train one model together. SIGINT and SIGTERM end the training
    after the current step and save it.

    :param resume: continue the run in ``options.run`` where it was left
    :param observe: called in the main process with the step and the numbers of each validation;
        the training ends if it returns False
    :param tracking: where to log besides the run folder
    :raises OptionError: the run exists and is not to be resumed, or is resumed with other options;
        or the package that ``tracking`` needs is missing.
    :raises CheckpointError: the last checkpoint is damaged or does not fit the run.
    :raises NotFiniteError: the loss or a validation metric is not finite.
    :raises PipelineError: memory or disk space is lacking, another process has ended, or another
        training writes to the run.
    """
    if tracking is not None:
        load_wandb()  # do not read a cache to find that it is missing
    stop = StopRequest()
    with join_process_group(stop) as group:
        return _train(options, resume, group, stop, observe, tracking)


def _train(
    options: TrainOptions,
    resume: bool,
    group: ProcessGroup,
    stop: StopRequest,
    observe: Observer | None,
    tracking: Tracking | None,
) -> Trained:
    # A function of its own: DistributedDataParallel must be freed before its process group is.
    began = time.monotonic()
    with ExitStack() as held:
        with reported_lack_of_memory(options.run, lambda: "before the first step"):
            training = setup(options, resume, group, stop, held)
        training.observe = observe
        if tracking is not None and training.log is not None:
            training.log.follower = held.enter_context(follow(training, tracking))
        fit(training)
        return _result(training, time.monotonic() - began)


def _result(training: Training, seconds: float) -> Trained:
    options, position = training.options, training.state.position
    return Trained(
        run=str(options.run),
        system=options.system,
        steps=position.step,
        best_step=position.best_step,
        selected_by="last step" if training.validation_pairs is None else options.select,
        best=position.best,
        parameters=sum(p.numel() for p in training.state.model.parameters()),
        seconds=seconds,
        tokens_per_second=training.state.meter.rate(),
        validation=training.validation,
        stopped=training.stopped,
    )
