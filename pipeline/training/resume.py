"""Whether a run may be continued, and where."""

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from multispace.data.cache.reader import Cache
from multispace.data.captions.vocabulary import Vocabulary
from multispace.errors import OptionError, PipelineError
from multispace.fields import default_of, flag
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.runs.checkpoint import Checkpoint, has_checkpoint, load_latest
from multispace.pipeline.runs.run_folder import CONFIG, LAST, read_run_config
from multispace.pipeline.runs.run_lock import RunLock
from multispace.pipeline.training.distributed import ProcessGroup

FREE_ON_RESUME = {
    "batch_size",  # checked together with the number of processes
    "epochs",
    "steps",
    "patience",
    "device",
    "cache",
    "run",
    "log_every",
    "save_every",
}


def find_checkpoint(
    options: TrainOptions, resume: bool, group: ProcessGroup, lock: RunLock
) -> Checkpoint | None:
    """Return the checkpoint to continue from; None to begin at the first step.

    All processes have read it when this returns in one of them, so that the main process may
    begin to write.

    :param lock: of the run; the main process takes it if the run exists
    :raises OptionError: the run exists and is not to be resumed, or is resumed with other options.
    :raises PipelineError: the processes do not read the same run, or another training writes to it.
    """
    if not (options.run / CONFIG).exists():
        checkpoint = None
    elif not resume:
        raise _exists(options.run)
    else:
        if group.is_main:
            lock.acquire()
        _check_options(options, group)
        checkpoint = _load(options.run / LAST)
    step = checkpoint.state.get("step", 0) if checkpoint else 0
    if (first := group.from_main(step)) != step:
        raise PipelineError(
            f"is at step {step} for process {group.rank}, at {first} for process 0",
            where=options.run,
            hint="put it on a file system that all machines share",
        )
    return checkpoint


def begin_run(run: Path, lock: RunLock) -> None:
    """Make the folder of a run that has no checkpoint yet, and take its lock.

    :raises OptionError: another training began this run in the meantime.
    """
    if lock.is_held:
        return
    run.mkdir(parents=True, exist_ok=True)
    lock.acquire()
    if (run / CONFIG).exists():
        raise _exists(run)


def _exists(run: Path) -> OptionError:
    return OptionError(
        "holds a run", where=f"--run {run}", hint="add --resume, or choose another folder"
    )


def _check_options(options: TrainOptions, group: ProcessGroup) -> None:
    """Refuse options that would make it another run."""
    config = read_run_config(options.run)
    defaults = {f.name: default_of(f, options.system) for f in fields(options)}
    begun = _plain(defaults) | config["options"]
    free = FREE_ON_RESUME - ({"epochs", "steps"} if options.lr_schedule != "constant" else set())
    for name, value in _plain(options.to_json()).items():
        if name not in free and begun[name] != value:
            raise OptionError(
                f"{options.run} was begun with {begun[name]}",
                where=f"{flag(name)} {value}",
                hint="resume it with the same value, or choose another --run",
            )
    # The batch is that of all processes: how they divide it changes rounding alone.
    before, size = config.get("ranks", 1), begun["batch_size"]
    if group.size * options.batch_size != before * size:
        raise OptionError(
            f"{options.run} was begun with {before} x {size}",
            where=f"--batch-size {options.batch_size}, "
            f"{group.size} x {options.batch_size} captions a step",
            hint="resume it with as many captions a step",
        )


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Return options as JSON has them."""
    return json.loads(json.dumps(options, default=lambda _: None))


def _load(last: Path) -> Checkpoint | None:
    if not has_checkpoint(last):
        return None
    checkpoint, note = load_latest(last)
    if note:
        print(note, file=sys.stderr)
    return checkpoint


def check_same_data(run: Path, cache: Cache, vocabulary: Vocabulary) -> None:
    """Refuse to continue with other features or words.

    :raises PipelineError: the cache is not the one that the run was begun with.
    """
    config = read_run_config(run)
    for name, now, has in (
        ("fingerprint", cache.spec.fingerprint, cache.spec.has_fingerprint),
        ("vocabulary_digest", vocabulary.digest, vocabulary.has_digest),
    ):
        if not has(config[name]):
            raise PipelineError(
                f"was begun with {name} {config[name][:12]}, {cache.root} has {now[:12]}",
                where=run,
                hint="use the cache that it was begun with",
            )
