"""The second stage: fit a system to a cache. One loop, read from top to bottom.

All randomness of a step is a function of (seed, step), and the order of the batches one of
(seed, epoch): the step number is the whole state of chance, and a resumed run is the same run.
"""

import json
import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import FrameType
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from data.batches import feature_moments, load_pairs
from data.cache import Cache
from data.vocabulary import Vocabulary
from model.checkpoint import (
    Checkpoint,
    load_latest,
    pack_optimiser,
    save_checkpoint,
    unpack_optimiser,
)
from model.device import choose_device, choose_precision
from model.objective import Loss
from model.options import flag
from model.systems import System, build
from pipeline.errors import OptionError, PipelineError
from pipeline.log import Log, Meter
from pipeline.optimiser import make_average, make_learning_rate, make_optimiser
from pipeline.options import TrainOptions
from pipeline.progress import Progress
from pipeline.run import BEST, CONFIG, LAST, read_run_config, write_config
from pipeline.transfer import local_cache
from pipeline.validation import latent_distributions, validate

DEFAULT_EPOCHS = 20
FREE_ON_RESUME = {
    "epochs",
    "steps",
    "patience",
    "device",
    "cache",
    "run",
    "log_every",
    "save_every",
}


@dataclass
class Position:
    """Where a training stands; all that a resume needs beside the tensors."""

    step: int = 0
    epoch: int = 0
    batch: int = 0  # batches of the epoch that are done
    best: float | None = None  # as ``--select`` measures it
    best_step: int = 0
    epochs_without_better: int = 0


@dataclass
class Trained:
    """What a training came to."""

    run: str
    system: str
    steps: int
    best_step: int
    selected_by: str
    best: float | None
    parameters: int
    seconds: float
    tokens_per_second: float
    validation: dict[str, float] = field(default_factory=dict)
    stopped: str | None = None  # the name of the signal that ended it early


def train(options: TrainOptions, resume: bool = False) -> Trained:
    """Fit a system and leave a run folder.

    :raises OptionError: the run exists and is not to be resumed, or is resumed with other options.
    :raises PipelineError: the loss is no longer a finite number.
    """
    began = time.monotonic()
    position, checkpoint = _find_checkpoint(options, resume)
    device = choose_device(options.device)
    precision = choose_precision(options.precision, device)
    cache = Cache.open(local_cache(options.cache))
    vocabulary = cache.vocabulary()
    pairs = load_pairs(cache, options.train_split)
    validation = (
        load_pairs(cache, options.val_split)
        if options.val_split in cache.manifest.captions
        else None
    )

    per_epoch, steps = count_steps(options, len(pairs))
    rate = make_learning_rate(options, steps)

    torch.manual_seed(options.seed)
    system = build(options.system_options(len(vocabulary), pairs.features.shape[1]))
    system.set_feature_moments(*feature_moments(pairs.features))
    system.to(device)
    optimiser = make_optimiser(options, system)
    average = make_average(options, system)
    in_use = system if average is None else cast(System, average.module)
    if checkpoint is not None and checkpoint.optimiser is not None:
        _check_same_data(options.run, cache, vocabulary)
        system.load_state_dict(checkpoint.weights)
        unpack_optimiser(optimiser, checkpoint.optimiser)
        if average is not None and checkpoint.average is not None:
            average.module.load_state_dict(checkpoint.average)
            average.n_averaged.fill_(position.step)
    else:
        options.run.mkdir(parents=True, exist_ok=True)
        write_config(options.run, options, cache, vocabulary, system)

    log, meter = Log(options.run, after=position.step), Meter()
    numbers: dict[str, float] = {}
    with (
        _stop_signals() as stop,
        Progress(steps, "steps", options.system, meter.text, position.step) as progress,
    ):
        for line in system.warnings():
            progress.note(line)
        for part in filter(None, (pairs, validation)):
            if part.without_vector:
                progress.note(
                    f"{part.captions.split}: {part.without_vector} of {part.captions.pictures} "
                    "pictures have no vector (see `cache info`) and are left out"
                )
        while position.step < steps and not stop.name:
            batches = pairs.epoch(options.batch_size, options.seed, position.epoch)
            meter.start()
            for captions in batches[position.batch :][: steps - position.step]:
                batch = pairs.batch(captions).to(device)
                _seed_step(options.seed, position.step)
                system.train()
                with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                    loss = system.loss(
                        batch.features, batch.inputs, batch.targets, batch.active, position.step
                    )
                _check_finite(loss, position, options.run)
                optimiser.zero_grad(set_to_none=True)
                loss.total.backward()
                norm = nn.utils.clip_grad_norm_(system.parameters(), options.clip)
                position.step += 1
                position.batch += 1
                for group in optimiser.param_groups:
                    group["lr"] = rate(position.step)
                optimiser.step()
                if average is not None:
                    average.update_parameters(system)
                meter.count(loss, norm, batch.captions, batch.tokens)
                if position.step % options.log_every == 0:
                    schedule = {**system.schedule(position.step),
                                "learning_rate": rate(position.step)}  # fmt: skip
                    log.write(position.step, "train", meter.take(schedule))
                if position.step % options.save_every == 0:
                    _save(options.run / LAST, position, system, optimiser, average)
                progress.advance()
                if stop.name:
                    break
            else:  # the epoch, or the last step, is done
                if position.batch == per_epoch:
                    position.epoch, position.batch = position.epoch + 1, 0
                if validation is not None:
                    numbers = validate(in_use, validation, vocabulary, options)
                    log.write(position.step, "val", numbers)
                    log.histograms(position.step, "val", latent_distributions(in_use, validation))
                    _select(options, numbers, position, in_use)
                progress.note(_epoch_line(options, position, meter, numbers))
            _save(options.run / LAST, position, system, optimiser, average)
            if options.patience and position.epochs_without_better >= options.patience:
                progress.note(f"no better {options.select} for {options.patience} epochs: stopped")
                break

    if validation is None:  # nothing to select by: the last is the best there is
        position.best_step = position.step
        _save(options.run / BEST, position, in_use)
    log.close()
    return Trained(
        run=str(options.run),
        system=options.system,
        steps=position.step,
        best_step=position.best_step,
        selected_by=options.select if validation is not None else "last step",
        best=position.best,
        parameters=sum(p.numel() for p in system.parameters()),
        seconds=time.monotonic() - began,
        tokens_per_second=meter.rate(),
        validation=numbers,
        stopped=stop.name,
    )


def count_steps(options: TrainOptions, captions: int) -> tuple[int, int]:
    """Return the optimiser steps of an epoch of so many captions, and of the whole training."""
    per_epoch = math.ceil(captions / options.batch_size)
    return per_epoch, options.steps or (options.epochs or DEFAULT_EPOCHS) * per_epoch


def _find_checkpoint(options: TrainOptions, resume: bool) -> tuple[Position, Checkpoint | None]:
    """Return where to start: at the beginning, or where the run was left."""
    if not (options.run / CONFIG).exists():
        return Position(), None
    if not resume:
        raise OptionError(f"--run {options.run}: holds a run; add --resume, or choose another")
    begun = {f.name: f.default for f in fields(options)} | read_run_config(options.run)["options"]
    free = FREE_ON_RESUME - ({"epochs", "steps"} if options.lr_schedule != "constant" else set())
    for name, value in json.loads(json.dumps(options.to_json())).items():
        if name not in free and begun[name] != value:
            raise OptionError(
                f"{flag(name)} {value}: {options.run} was begun with {begun[name]}; "
                "resume it as it was, or choose another --run"
            )
    last = options.run / LAST
    if not last.exists() and not last.with_name("last.previous").exists():
        return Position(), None
    checkpoint, note = load_latest(last)
    if note:
        print(note, file=sys.stderr)
    return Position(**checkpoint.state), checkpoint


def _check_same_data(run: Path, cache: Cache, vocabulary: Vocabulary) -> None:
    """Refuse to go on with other vectors or words."""
    config = read_run_config(run)
    for what, now in (
        ("fingerprint", cache.spec.fingerprint),
        ("vocabulary_digest", vocabulary.digest),
    ):
        if config[what] != now:
            raise PipelineError(
                f"{run} was begun with {what} {config[what][:12]}, {cache.root} has {now[:12]}; "
                "use the cache that it was begun with"
            )


def _seed_step(seed: int, step: int) -> None:
    """Make the draws of a step (latents, dropout) a function of seed and step alone."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]))


def _check_finite(loss: Loss, position: Position, run: Path) -> None:
    if not torch.isfinite(loss.total):
        term = next(name for name in ("reconstruction", "kl_z", "kl_c", "total")
                    if not torch.isfinite(getattr(loss, name)))  # fmt: skip
        last = run / LAST
        raise PipelineError(
            f"{run}: {term} is {getattr(loss, term).item()} at step {position.step}; "
            + (f"the last good checkpoint is {last}; " if last.exists() else "")
            + "try a lower --learning-rate or --clip"
        )


def _select(
    options: TrainOptions, numbers: dict[str, float], position: Position, system: System
) -> None:
    """Keep the system as the best one if it is."""
    value, best = numbers[options.select], position.best
    if best is None or (value < best if options.select == "loss" else value > best):
        position.best, position.best_step, position.epochs_without_better = value, position.step, 0
        _save(options.run / BEST, position, system)
    else:
        position.epochs_without_better += 1


def _save(
    folder: Path,
    position: Position,
    system: System,
    optimiser: torch.optim.Optimizer | None = None,
    average: AveragedModel | None = None,
) -> None:
    packed = pack_optimiser(optimiser) if optimiser else None
    averaged = average.module.state_dict() if average else None
    state = asdict(position)
    save_checkpoint(folder, Checkpoint(system.state_dict(), packed, state, averaged))


def _epoch_line(
    options: TrainOptions, position: Position, meter: Meter, numbers: dict[str, float]
) -> str:
    line = f"{options.system}: step {position.step}, {meter.rate():.0f} tokens/s"
    if numbers:
        line += (
            f"; {options.val_split}: recon {numbers['recon']:.2f} nats, "
            f"KL_z {numbers['kl_z']:.2f}, KL_c {numbers['kl_c']:.2f}, CIDEr {numbers['cider']:.3f}"
        )
    return line + (" (best)" if position.best_step == position.step else "")


@dataclass
class _Stop:
    name: str | None = None


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """Turn the first SIGINT or SIGTERM into a wish to stop after the step in hand."""
    stop = _Stop()

    def note(number: int, frame: FrameType | None) -> None:
        stop.name = signal.Signals(number).name
        signal.signal(number, old[signal.Signals(number)])  # a second one means it

    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in old:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
