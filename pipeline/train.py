"""The second stage: fit a system to a cache. One loop, read from top to bottom.

All randomness of a step is a function of (seed, step), and the order of the batches one of
(seed, epoch): the step number is the whole state of chance, and a resumed run is the same run.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim.swa_utils import AveragedModel

from multispace.data.batches import feature_moments, load_pairs
from multispace.data.cache.reader import Cache
from multispace.errors import OptionError, PipelineError, without_password
from multispace.model.device import choose_device, choose_precision
from multispace.model.latent.losses import Loss
from multispace.model.systems import build
from multispace.model.systems.ag_cvae import AGCVAE
from multispace.model.systems.captioner import Captioner
from multispace.pipeline.console.progress import Progress
from multispace.pipeline.runs.checkpoint import (
    Checkpoint,
    pack_optimizer,
    save_checkpoint,
    unpack_optimizer,
)
from multispace.pipeline.runs.run_folder import BEST, LAST, write_config
from multispace.pipeline.training.distributed import Ranks, join
from multispace.pipeline.training.interrupts import Stop, noted
from multispace.pipeline.training.metrics_log import Log, Meter
from multispace.pipeline.training.noun_clusters import noun_clusters
from multispace.pipeline.training.optimizer import make_average, make_learning_rate, make_optimizer
from multispace.pipeline.training.resume import Position, check_same_data, find_checkpoint
from multispace.pipeline.training.train_options import TrainOptions
from multispace.pipeline.training.validation import collapse_warning, latent_distributions, validate
from multispace.pipeline.transfer import local_cache

DEFAULT_EPOCHS = 20
LEAST_SCALE = 2.0**-14  # the least normal number of float16: of a gradient of 1, less is lost


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
    """Fit a system and leave a run folder. Under `torchrun`, do it together; rank 0 writes.

    :raises OptionError: the run exists and is not to be resumed, or is resumed with other options.
    :raises PipelineError: the loss is no longer a finite number, or another process is gone.
    """
    stop = Stop()
    with join(stop) as ranks:
        return _train(options, resume, ranks, stop)


def _train(options: TrainOptions, resume: bool, ranks: Ranks, stop: Stop) -> Trained:
    began = time.monotonic()
    if ranks.count > 1 and "://" in str(options.cache):
        raise OptionError(
            f"--cache {without_password(str(options.cache))}: {ranks.count} processes would fetch "
            "it at once; `cache pull` it first, and give the folder"
        )
    position, checkpoint = find_checkpoint(options, resume, ranks)
    device = choose_device(ranks.device(options.device))
    precision = choose_precision(options.precision, device)
    cache = Cache.open(local_cache(options.cache))
    vocabulary = cache.vocabulary()
    pairs = load_pairs(cache, options.train_split)
    validation = (
        load_pairs(cache, options.val_split)
        if options.val_split in cache.manifest.captions
        else None
    )

    batch_size = options.batch_size * ranks.count
    per_epoch, steps = count_steps(options, len(pairs), batch_size)
    rate = make_learning_rate(options, steps)

    torch.manual_seed(options.seed)
    system = build(options.system_options(len(vocabulary), pairs.features.shape[1]))
    system.set_feature_moments(*feature_moments(pairs.features))
    if isinstance(system, AGCVAE):
        system.set_clusters(noun_clusters(vocabulary, pairs, options.clusters))
    system.to(device)
    optimizer = make_optimizer(options, system)
    scaler = GradScaler(device.type, enabled=precision == torch.float16)
    average = make_average(options, system)
    in_use = system if average is None else cast(Captioner, average.module)
    if checkpoint is not None and checkpoint.optimizer is not None:
        check_same_data(options.run, cache, vocabulary)
        system.load_state_dict(checkpoint.weights)
        unpack_optimizer(optimizer, checkpoint.optimizer)
        if position.scaler:
            scaler.load_state_dict(position.scaler)
        if average is not None and checkpoint.average is not None:
            average.module.load_state_dict(checkpoint.average)
            average.n_averaged.fill_(position.step)
    elif ranks.first:
        options.run.mkdir(parents=True, exist_ok=True)
        write_config(options.run, options, cache, vocabulary, system, ranks.count)

    loss_of = ranks.loss_of(system, device)

    def save_last() -> None:
        position.scaler = scaler.state_dict()
        _save(options.run / LAST, position, system, optimizer, average)

    log = Log(options.run, after=position.step) if ranks.first else None
    meter = Meter()
    numbers: dict[str, float] = {}
    stopped: str | None = None
    with (
        noted(stop, insist=ranks.count == 1),
        Progress(steps, "steps", options.system, meter.text, position.step) as progress,
        _told_of_lost_ranks(options.run, ranks, position, save_last),
    ):
        for line in system.warnings():
            progress.note(line)
        for part in filter(None, (pairs, validation)):
            if part.without_vector:
                progress.note(
                    f"{part.captions.split}: {part.without_vector} of {part.captions.images} "
                    "pictures have no vector (see `cache info`) and are left out"
                )
        while position.step < steps and not stopped:
            batches = pairs.epoch(batch_size, options.seed, position.epoch)
            meter.start()
            for captions in batches[position.batch :][: steps - position.step]:
                _seed_step(options.seed, position.step)
                mine, share = ranks.share(captions)
                batch = pairs.batch(mine).to(device)
                system.train()
                with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                    loss = loss_of(
                        batch.features,
                        batch.inputs,
                        batch.targets,
                        batch.batch_sizes,
                        position.step,
                        share,
                    )
                _check_finite(loss, scaler, position, options.run)
                optimizer.zero_grad(set_to_none=True)
                scaler.scale(loss.total).backward()
                scaler.unscale_(optimizer)
                norm = nn.utils.clip_grad_norm_(system.parameters(), options.clip)
                position.step += 1
                position.batch += 1
                for group in optimizer.param_groups:
                    group["lr"] = rate(position.step)
                scaler.step(optimizer)  # float16 whose gradients overflow: it leaves the step out
                scaler.update()
                if average is not None:
                    average.update_parameters(system)
                meter.count(loss, norm, len(captions), int(pairs.lengths[captions].sum()))
                if log and position.step % options.log_every == 0:
                    schedule = {**system.schedule(position.step),
                                "learning_rate": rate(position.step)}  # fmt: skip
                    if scaler.is_enabled():
                        schedule["loss_scale"] = scaler.get_scale()
                        schedule["skipped_steps"] = meter.skipped
                    log.write(position.step, "train", meter.take(schedule))
                if ranks.first and position.step % options.save_every == 0:
                    save_last()
                progress.advance()
                if stopped := ranks.stopped(stop):
                    break
            else:  # the epoch, or the last step, is done
                if position.batch == per_epoch:
                    position.epoch, position.batch = position.epoch + 1, 0
                if validation is not None:
                    if log:
                        numbers = validate(in_use, validation, vocabulary, options)
                        log.write(position.step, "val", numbers)
                        log.histograms(
                            position.step, "val", latent_distributions(in_use, validation)
                        )
                        _select(options, numbers, position, in_use)
                    position.epochs_without_better = ranks.from_first(
                        position.epochs_without_better
                    )
                progress.note(_epoch_line(options, position, meter, numbers))
                if warning := collapse_warning(numbers):
                    progress.note(f"{options.system}: {warning}")
            if ranks.first:
                save_last()
            stopped = ranks.stopped(stop)
            if options.patience and position.epochs_without_better >= options.patience:
                progress.note(f"no better {options.select} for {options.patience} epochs: stopped")
                break

    if log:
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
        stopped=stopped,
    )


def count_steps(options: TrainOptions, captions: int, batch_size: int) -> tuple[int, int]:
    """Return the optimizer steps of an epoch of so many captions, and of the whole training.

    :param batch_size: of all processes together
    """
    per_epoch = math.ceil(captions / batch_size)
    return per_epoch, options.steps or (options.epochs or DEFAULT_EPOCHS) * per_epoch


def _seed_step(seed: int, step: int) -> None:
    """Make the draws of a step (latents, dropout) a function of seed and step alone."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]))


def _check_finite(loss: Loss, scaler: GradScaler, position: Position, run: Path) -> None:
    """Stop at a loss that is no number, or gradients that no scale keeps from overflowing."""
    if not torch.isfinite(loss.total):
        term = next(name for name in ("reconstruction", "kl_z", "kl_c", "total")
                    if not torch.isfinite(getattr(loss, name)))  # fmt: skip
        fault = f"{term} is {getattr(loss, term).item()}"
    elif scaler.is_enabled() and scaler.get_scale() < LEAST_SCALE:
        fault = f"gradients overflow float16 even at a loss scale of {scaler.get_scale():g}"
    else:
        return
    last = run / LAST
    raise PipelineError(
        f"{run}: {fault} at step {position.step}; "
        + (f"the last good checkpoint is {last}; " if last.exists() else "")
        + "try a lower --learning-rate or --clip"
    )


def _select(
    options: TrainOptions, numbers: dict[str, float], position: Position, system: Captioner
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
    system: Captioner,
    optimizer: torch.optim.Optimizer | None = None,
    average: AveragedModel | None = None,
) -> None:
    packed = pack_optimizer(optimizer) if optimizer else None
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
        if "shuffled_both" in numbers:
            line += f", {numbers['shuffled_both']:.2f} nats lost with latents shuffled"
    return line + (" (best)" if position.best_step == position.step else "")


@contextmanager
def _told_of_lost_ranks(
    run: Path, ranks: Ranks, position: Position, save: Callable[[], None]
) -> Iterator[None]:
    """Save, and say what happened, where another process is gone."""
    try:
        yield
    except RuntimeError as error:
        if not ranks.is_loss_of_rank(error):
            raise
        if ranks.first:  # processes meet before the weights change: they are those of the step
            save()
        last = run / LAST
        kept = f"{last} is kept" if last.exists() else "there is no checkpoint yet"
        raise PipelineError(
            f"{run}: another of the {ranks.count} processes ended in step {position.step}; {kept}; "
            "the same command with --resume goes on"
        ) from error
