"""What a training works on, in one process."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from multispace.data.batches import Pairs
from multispace.data.captions.vocabulary import Vocabulary
from multispace.model.latent.losses import Loss
from multispace.model.latent.schedules import LearningRate
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.training.distributed import ProcessGroup
from multispace.pipeline.training.interrupts import StopRequest
from multispace.pipeline.training.state import TrainingState

if TYPE_CHECKING:  # a step alone does not need what they import
    from multispace.pipeline.console.progress import Progress
    from multispace.pipeline.training.metrics_log import MetricsLog

# Called with the step and the numbers of each validation; returns whether to go on.
Observer = Callable[[int, Mapping[str, float]], bool]


@dataclass(frozen=True)
class StepNumbers:
    """The loss and the gradient norm of a step, on their way from the GPU."""

    step: int  # optimizer steps that were done before it
    terms: Tensor  # of the loss, and the norm: (5,) on the CPU
    arrived: torch.cuda.Event | None  # from then on ``terms`` may be read; None for at once
    captions: int
    tokens: int


@dataclass
class Training:
    """One training in one process: what it works on, and its state."""

    options: TrainOptions
    group: ProcessGroup
    device: torch.device
    precision: torch.dtype
    vocabulary: Vocabulary
    pairs: Pairs
    validation_pairs: Pairs | None
    steps: int
    steps_per_epoch: int
    learning_rate: LearningRate
    state: TrainingState
    loss_function: Callable[..., Loss]
    stop: StopRequest
    log: "MetricsLog | None"  # of the main process
    observe: Observer | None = None
    progress: "Progress" = field(init=False)
    unread: deque[StepNumbers] = field(default_factory=deque)  # steps that are not checked yet
    stopped: str | None = None  # the signal that all processes stop for
    ended: bool = False  # by ``--patience`` or the observer, after a validation
    validation: dict[str, float] = field(default_factory=dict)  # the last one's numbers
