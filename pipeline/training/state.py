"""The state of a training: all that changes from step to step, and that a checkpoint holds."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

import torch
from torch.amp import GradScaler
from torch.optim.swa_utils import AveragedModel

from multispace.data.batches import Pairs, feature_moments
from multispace.data.captions.vocabulary import Vocabulary
from multispace.errors import CheckpointError
from multispace.model.systems import build
from multispace.model.systems.ag_cvae import AGCVAE
from multispace.model.systems.captioner import Captioner
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.runs.checkpoint import (
    AVERAGE,
    OPTIMIZER,
    STATE,
    WEIGHTS,
    Checkpoint,
    pack_optimizer,
    unpack_optimizer,
)
from multispace.pipeline.runs.tensor_checks import HINT, check_moments, check_tensors
from multispace.pipeline.training.meter import Meter
from multispace.pipeline.training.noun_clusters import noun_clusters
from multispace.pipeline.training.optimizer import make_average, make_optimizer


@dataclass
class Position:
    """How far a training is."""

    step: int = 0
    epoch: int = 0
    batch: int = 0  # batches of the epoch that are done
    best: float | None = None  # as ``--select`` measures it
    best_step: int = 0
    epochs_without_better: int = 0

    @classmethod
    def of(cls, state: dict[str, Any]) -> "Position":
        """Return the position in the state of a checkpoint."""
        return cls(**{f.name: state[f.name] for f in fields(cls) if f.name in state})


@dataclass
class TrainingState:
    """The state of a training."""

    model: Captioner
    optimizer: torch.optim.Optimizer
    scaler: GradScaler
    average: AveragedModel | None
    position: Position
    meter: Meter

    @property
    def selected_model(self) -> Captioner:
        """The model to validate and to use: the average of the weights if there is one."""
        return self.model if self.average is None else cast(Captioner, self.average.module)

    def checkpoint(self, metrics_lines: int) -> Checkpoint:
        """Return a checkpoint to resume from.

        :param metrics_lines: how many lines the metrics log has
        """
        state = {
            **asdict(self.position),
            "scaler": self.scaler.state_dict(),
            "meter": self.meter.to_json(),
            "metrics_lines": metrics_lines,
        }
        average = None if self.average is None else self.average.module.state_dict()
        return Checkpoint(self.model.state_dict(), pack_optimizer(self.optimizer), state, average)

    def checkpoint_for_use(self) -> Checkpoint:
        """Return a checkpoint that holds no more than the model to use."""
        return Checkpoint(self.selected_model.state_dict(), None, asdict(self.position))

    def load(self, checkpoint: Checkpoint, folder: Path, steps_per_epoch: int) -> None:
        """Continue from ``checkpoint``. All of it is checked before any of it is loaded.

        :param folder: where it was read, for messages
        :param steps_per_epoch: of this training
        :raises CheckpointError: it does not fit; names the file and what differs.
        """
        position = Position.of(checkpoint.state)
        self._check(checkpoint, position, folder, steps_per_epoch)
        self.position = position
        self.model.load_state_dict(checkpoint.weights)
        unpack_optimizer(self.optimizer, checkpoint.optimizer or {})
        if self.scaler.is_enabled() and checkpoint.state.get("scaler"):
            self.scaler.load_state_dict(checkpoint.state["scaler"])
        if "meter" in checkpoint.state:  # earlier versions did not save it
            self.meter.load(checkpoint.state["meter"])
        if self.average is not None and checkpoint.average is not None:
            self.average.module.load_state_dict(checkpoint.average)
            self.average.n_averaged.fill_(position.step)

    def _check(
        self, checkpoint: Checkpoint, position: Position, folder: Path, steps_per_epoch: int
    ) -> None:
        def refuse(file: str, what: str) -> CheckpointError:
            return CheckpointError(what, where=folder / file, hint=HINT)

        if position.batch > steps_per_epoch or position.best_step > position.step:
            raise refuse(
                STATE,
                f"batch {position.batch} of {steps_per_epoch}, best step {position.best_step} of "
                f"{position.step}: this is no position in the run",
            )
        if checkpoint.optimizer is None:
            raise refuse(OPTIMIZER, "not found")
        if (checkpoint.average is None) != (self.average is None):
            raise refuse(AVERAGE, "not found" if self.average else "the run keeps no average")
        scaler = checkpoint.state.get("scaler")
        if self.scaler.is_enabled() and scaler:
            expected = self.scaler.state_dict().keys()
            if scaler.keys() != expected or min(scaler.values()) < 0 or scaler["scale"] == 0:
                raise refuse(STATE, f"scaler does not hold {', '.join(expected)}, none negative")
        check_tensors(checkpoint.weights, self.model.state_dict(), folder / WEIGHTS)
        check_moments(checkpoint.optimizer, self.model, position.step, folder / OPTIMIZER)
        if checkpoint.average is not None:
            check_tensors(checkpoint.average, self.model.state_dict(), folder / AVERAGE)


def initial_state(
    options: TrainOptions,
    vocabulary: Vocabulary,
    pairs: Pairs,
    device: torch.device,
    precision: torch.dtype,
) -> TrainingState:
    """Return the state before the first step.

    :param pairs: the training captions and their features
    """
    torch.manual_seed(options.seed)
    model = build(options.system_options(len(vocabulary), pairs.features.shape[1]))
    model.set_feature_moments(*feature_moments(pairs.features))
    if isinstance(model, AGCVAE):
        model.set_clusters(noun_clusters(vocabulary, pairs, options.clusters))
    model.to(device)
    return TrainingState(
        model=model,
        optimizer=make_optimizer(options, model),
        scaler=GradScaler(device.type, enabled=precision == torch.float16),
        average=make_average(options, model),
        position=Position(),
        meter=Meter(),
    )
