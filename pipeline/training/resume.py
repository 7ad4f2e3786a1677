"""Where a training stands, and whether it may go on from where it was left."""

import json
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path

from multispace.data.cache.reader import Cache
from multispace.data.cache.vocabulary import Vocabulary
from multispace.errors import OptionError, PipelineError
from multispace.fields import flag
from multispace.pipeline.runs.checkpoint import Checkpoint, load_latest
from multispace.pipeline.runs.run_folder import CONFIG, LAST, read_run_config
from multispace.pipeline.training.distributed import Ranks
from multispace.pipeline.training.train_options import TrainOptions

FREE_ON_RESUME = {
    "batch_size",  # judged together with the number of processes
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
    scaler: dict[str, float] = field(default_factory=dict)  # of float16's gradients


def find_checkpoint(
    options: TrainOptions, resume: bool, ranks: Ranks
) -> tuple[Position, Checkpoint | None]:
    """Return where to start: at the beginning, or where the run was left.

    All ranks have read it when one of them returns, so that rank 0 may begin to write.

    :raises OptionError: the run exists and is not to be resumed, or is resumed with other options.
    :raises PipelineError: the ranks do not see the same run.
    """
    if not (options.run / CONFIG).exists():
        position, checkpoint = Position(), None
    elif not resume:
        raise OptionError(f"--run {options.run}: holds a run; add --resume, or choose another")
    else:
        _check_options(options, ranks)
        position, checkpoint = _load(options.run / LAST)
    if (first := ranks.from_first(position.step)) != position.step:
        raise PipelineError(
            f"{options.run}: is at step {position.step} for rank {ranks.rank}, at {first} for rank "
            "0; put it on a file system that all machines share"
        )
    return position, checkpoint


def _check_options(options: TrainOptions, ranks: Ranks) -> None:
    """Refuse to go on with what would make it another run."""
    config = read_run_config(options.run)
    begun = {f.name: f.default for f in fields(options)} | config["options"]
    free = FREE_ON_RESUME - ({"epochs", "steps"} if options.lr_schedule != "constant" else set())
    for name, value in json.loads(json.dumps(options.to_json())).items():
        if name not in free and begun[name] != value:
            raise OptionError(
                f"{flag(name)} {value}: {options.run} was begun with {begun[name]}; "
                "resume it as it was, or choose another --run"
            )
    # The batch is of all processes: how it is shared out changes rounding alone.
    before, size = config.get("ranks", 1), begun["batch_size"]
    now = options.batch_size
    if ranks.count * now != before * size:
        raise OptionError(
            f"--batch-size {now}, {ranks.count} x {now} captions a step: {options.run} was begun "
            f"with {before} x {size}; resume it with as many a step"
        )


def _load(last: Path) -> tuple[Position, Checkpoint | None]:
    if not last.exists() and not last.with_name("last.previous").exists():
        return Position(), None
    checkpoint, note = load_latest(last)
    if note:
        print(note, file=sys.stderr)
    return Position(**checkpoint.state), checkpoint


def check_same_data(run: Path, cache: Cache, vocabulary: Vocabulary) -> None:
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
