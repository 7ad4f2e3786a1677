"""The training loop: `setup`, then `fit`, which calls `train_step`, `end_epoch` and `validate`.

All randomness of a step is a function of (seed, step), and the order of the batches one of
(seed, epoch). A resumed run therefore needs no state of random generators. On a CPU it is
bit-identical to an uninterrupted one; on a GPU some sums have no fixed order.
"""

import math
from contextlib import ExitStack

from multispace.data.batches import Pairs, load_pairs
from multispace.data.cache.reader import Cache
from multispace.errors import OptionError, without_password
from multispace.model.device import choose_device, choose_precision
from multispace.pipeline.cache_transfer import local_cache
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.console.progress import Progress
from multispace.pipeline.runs.checkpoint import save_checkpoint
from multispace.pipeline.runs.run_folder import BEST, LAST, write_config
from multispace.pipeline.runs.run_lock import RunLock
from multispace.pipeline.training.context import Training
from multispace.pipeline.training.distributed import ProcessGroup
from multispace.pipeline.training.interrupts import StopRequest, signals_request_stop
from multispace.pipeline.training.metrics_log import MetricsLog
from multispace.pipeline.training.optimizer import make_learning_rate
from multispace.pipeline.training.resume import begin_run, check_same_data, find_checkpoint
from multispace.pipeline.training.state import initial_state
from multispace.pipeline.training.step import finish_steps, not_finite, train_step
from multispace.pipeline.training.stop_reasons import reported_lack_of_memory, reported_lost_process
from multispace.pipeline.training.validation import (
    collapse_warning,
    latent_distributions,
    validation_metrics,
)

DEFAULT_EPOCHS = 20


def setup(
    options: TrainOptions, resume: bool, group: ProcessGroup, stop: StopRequest, held: ExitStack
) -> Training:
    """Read the cache, build the model or load the last checkpoint, and open the run folder.

    :param held: closed after the training; holds the lock and the log of the run
    :raises OptionError: the run exists and is not to be resumed, or is resumed with other options.
    :raises CheckpointError: the checkpoint does not fit the run.
    """
    if group.size > 1 and "://" in str(options.cache):
        raise OptionError(
            f"{group.size} processes would fetch it at the same time",
            where=f"--cache {without_password(str(options.cache))}",
            hint="fetch it with `multispace cache pull` and give the folder",
        )
    lock = RunLock(options.run)
    held.callback(lock.release)
    checkpoint = find_checkpoint(options, resume, group, lock)
    device = choose_device(group.device(options.device))
    precision = choose_precision(options.precision, device)
    cache = Cache.open(local_cache(options.cache))
    vocabulary = cache.vocabulary()
    pairs = load_pairs(cache, options.train_split)
    has_validation = options.val_split in cache.manifest.captions
    validation_pairs = load_pairs(cache, options.val_split) if has_validation else None
    per_epoch, steps = count_steps(options, len(pairs), options.batch_size * group.size)
    learning_rate = make_learning_rate(options, steps)
    state = initial_state(options, vocabulary, pairs, device, precision)
    if checkpoint is not None:
        check_same_data(options.run, cache, vocabulary)
        state.load(checkpoint, options.run / LAST, per_epoch)
    elif group.is_main:
        begin_run(options.run, lock)
        write_config(options.run, options, cache, vocabulary, state.model, group.size)
    pairs = pairs.kept_on(device)
    if validation_pairs is not None:
        validation_pairs = validation_pairs.kept_on(device)
    log = None
    if group.is_main:
        lines = None if checkpoint is None else checkpoint.state.get("metrics_lines")
        log = MetricsLog(options.run, state.position.step, per_epoch, lines)
        held.callback(log.close)
    return Training(
        options=options,
        group=group,
        device=device,
        precision=precision,
        vocabulary=vocabulary,
        pairs=pairs,
        validation_pairs=validation_pairs,
        steps=steps,
        steps_per_epoch=per_epoch,
        learning_rate=learning_rate,
        state=state,
        loss_function=group.loss_function(state.model, device),
        stop=stop,
        log=log,
    )


def fit(training: Training) -> None:
    """Train to the last step, or until a signal, ``--patience`` or the observer ends the training.

    :raises NotFiniteError: the loss or a validation metric is not finite.
    :raises PipelineError: memory or disk space is lacking, or another process has ended.
    """
    group, state, options = training.group, training.state, training.options
    position, meter = state.position, state.meter
    progress = Progress(
        training.steps,
        "steps",
        options.system,
        lambda: ", ".join(filter(None, (epoch_in_progress(training), meter.summary()))),
        position.step,
        details=meter.details,
    )
    training.progress = progress
    with (
        signals_request_stop(training.stop, second_interrupts=group.size == 1),
        progress,
        reported_lack_of_memory(options.run, lambda: f"in step {position.step}"),
        reported_lost_process(
            options.run, group, lambda: position.step, lambda: save_last(training)
        ),
    ):
        _print_notes(training)
        while position.step < training.steps and not (training.stopped or training.ended):
            if train_epoch(training):
                end_epoch(training)
            if group.is_main:
                save_last(training)
            training.stopped = group.agreed_stop(training.stop)
        if group.is_main and training.validation_pairs is None:
            position.best_step = position.step  # nothing to select by: the last is the best
            save_best(training)


def train_epoch(training: Training) -> bool:
    """Train to the end of the epoch, or to the last step.

    :returns: whether it was reached; False if the training ends before
    """
    group, state, options = training.group, training.state, training.options
    position = state.position
    batches = training.pairs.epoch(options.batch_size * group.size, options.seed, position.epoch)
    state.meter.start()
    for captions in batches[position.batch :][: training.steps - position.step]:
        train_step(training, captions)
        if group.is_main:
            log_step(training)
        if options.validate_every and _is_due(training, options.validate_every):
            finish_steps(training)
            run_validation(training)
            state.meter.start()
        if group.is_main and position.step % options.save_every == 0:
            save_last(training)
        training.progress.advance()
        training.stopped = group.agreed_stop(training.stop)
        if training.stopped or training.ended:
            break
    finish_steps(training)
    return not (training.stopped or training.ended)


def _is_due(training: Training, validate_every: int) -> bool:
    step = training.state.position.step
    return step % validate_every == 0 or step == training.steps


def log_step(training: Training) -> None:
    """Log the steps since the last line, where it is time to. For the main process."""
    state, step, options = training.state, training.state.position.step, training.options
    if training.log and step % options.log_every == 0:
        finish_steps(training)
        schedule = {
            **state.model.schedule(step),
            "learning_rate": training.learning_rate(step),
        }
        if state.scaler.is_enabled():
            schedule["loss_scale"] = state.scaler.get_scale()
            schedule["skipped_steps"] = state.meter.sums.skipped
        training.log.write(step, "train", state.meter.take(schedule))


def end_epoch(training: Training) -> None:
    """Count the epoch, and validate if the epochs say when."""
    position = training.state.position
    if position.batch == training.steps_per_epoch:  # else the last step was in mid-epoch
        position.epoch, position.batch = position.epoch + 1, 0
    if training.options.validate_every is None:
        run_validation(training)


def run_validation(training: Training) -> None:
    """Validate, print how it goes, and decide whether the training goes on."""
    position, options, group = training.state.position, training.options, training.group
    if training.validation_pairs is not None:
        if group.is_main:
            validate(training, training.validation_pairs)
        position.epochs_without_better = group.from_main(position.epochs_without_better)
    training.progress.note(_epoch_line(training))
    if warning := collapse_warning(training.validation, position.step):
        training.progress.note(f"{options.system}: {warning}")
    if options.patience and position.epochs_without_better >= options.patience:
        unit = "validations" if options.validate_every else "epochs"
        training.progress.note(f"stopped: no better {options.select} for {options.patience} {unit}")
        training.ended = True
    if training.observe is not None and training.validation_pairs is not None:
        goes_on = training.observe(position.step, training.validation) if group.is_main else True
        training.ended = bool(group.from_main(int(training.ended or not goes_on)))


def validate(training: Training, pairs: Pairs) -> None:
    """Measure the model on ``pairs``, and save it if it is the best one. For the main process."""
    state, position, options = training.state, training.state.position, training.options
    model = state.selected_model
    numbers = validation_metrics(
        model,
        pairs,
        training.vocabulary,
        options,
        lambda: [*training.pairs.captions.references().values()],
    )
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise not_finite(training, f"validation {name} is {number}", position.step)
    if training.log:
        training.log.write(position.step, "val", numbers)
        training.log.histograms(position.step, "val", latent_distributions(model, pairs))
    training.validation = numbers
    value, best = numbers[options.select], position.best
    if best is None or (value < best if options.select == "loss" else value > best):
        position.best, position.best_step, position.epochs_without_better = value, position.step, 0
        save_best(training)
    else:
        position.epochs_without_better += 1


def save_last(training: Training) -> None:
    """Save all that a resume needs. For the main process."""
    finish_steps(training)
    lines = training.log.lines if training.log else 0
    save_checkpoint(training.options.run / LAST, training.state.checkpoint(lines))


def save_best(training: Training) -> None:
    """Save the model for use. For the main process."""
    save_checkpoint(training.options.run / BEST, training.state.checkpoint_for_use())


def epoch_in_progress(training: Training) -> str:
    """Return the number of the epoch that the last step was part of, for example "epoch 3/6"."""
    step, size = training.state.position.step, training.steps_per_epoch
    return f"epoch {max(1, math.ceil(step / size))}/{math.ceil(training.steps / size)}"


def count_steps(options: TrainOptions, captions: int, batch_size: int) -> tuple[int, int]:
    """Return the optimizer steps of an epoch, and of the whole training.

    :param captions: number of training captions
    :param batch_size: of all processes together
    """
    per_epoch = math.ceil(captions / batch_size)
    return per_epoch, options.steps or (options.epochs or DEFAULT_EPOCHS) * per_epoch


def _print_notes(training: Training) -> None:
    for line in training.state.model.warnings():
        training.progress.note(line)
    if training.validation_pairs is None:
        training.progress.note(
            f"the cache has no split {training.options.val_split!r}: nothing is validated, and the "
            "best checkpoint is the last; name another split with --val-split, or add one with "
            "`multispace preprocess`"
        )
    for pairs in filter(None, (training.pairs, training.validation_pairs)):
        if pairs.without_vector:
            training.progress.note(
                f"{pairs.captions.split}: {pairs.without_vector} of {pairs.captions.images} "
                "images have no feature vector and are left out (see `multispace cache info`)"
            )


def _epoch_line(training: Training) -> str:
    position, numbers = training.state.position, training.validation
    epochs = training.steps / training.steps_per_epoch
    epoch = position.step / training.steps_per_epoch
    line = (
        f"{training.options.system}: epoch {round(epoch, 2):g}/{round(epochs, 2):g}, "
        f"step {position.step}, "
        f"{training.state.meter.rate():.0f} tokens/s"
    )
    if numbers:
        line += (
            f"; {training.options.val_split}: recon {numbers['recon']:.2f} nats, "
            f"KL_z {numbers['kl_z']:.2f}, KL_c {numbers['kl_c']:.2f}, CIDEr {numbers['cider']:.3f}"
        )
        if "shuffled_both" in numbers:
            line += f", {numbers['shuffled_both']:.2f} nats lost with latents shuffled"
    return line + (" (best)" if position.best_step == position.step else "")
