"""The options of `train`: typed, validated together, one place for names, defaults and help."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from multispace.errors import ModelError, OptionError, without_password
from multispace.model.options import (
    DECODER,
    LATENT,
    MULTISPACE,
    PRECISIONS,
    SPACE,
    ModelOptions,
    SystemOptions,
    flag,
    option,
)

PRESETS: dict[str, dict[str, Any]] = {
    # What the paper gives, and where it is silent what is usual; whatever the defaults become.
    "paper": {
        "batch_size": 128,
        "learning_rate": 1e-3,
        "embedding": 512,
        "hidden": 512,
        "z_size": 128,
        "categories": (128,),
        "temperature": 0.67,
        "annealing": "logistic",
        "annealing_midpoint": 2500.0,
        "annealing_slope": 0.0025,
    },
    # A first look: a third of the arithmetic, and fewer, larger steps.
    "fast": {
        "epochs": 10,
        "batch_size": 256,
        "learning_rate": 2e-3,
        "lr_schedule": "cosine",
        "embedding": 256,
        "hidden": 256,
    },
}

RUN, OPTIMIZER = "Run", "Optimiser"
GROUPS = (RUN, OPTIMIZER, DECODER, SPACE, LATENT, MULTISPACE)


@dataclass(frozen=True, kw_only=True)
class TrainOptions(ModelOptions):
    """What `train` is asked for. The help texts are the command's."""

    cache: Path | str  # a folder, or a URL
    run: Path
    epochs: int | None = option(
        RUN, None, "passes over the training captions (20 without --steps)", least=1
    )
    steps: int | None = option(RUN, None, "optimizer steps, in place of --epochs", least=1)
    batch_size: int = option(RUN, 128, "captions a step", least=1)
    seed: int = option(RUN, 0, "the one source of randomness", least=0)
    train_split: str = option(RUN, "train", "split to fit")
    val_split: str = option(RUN, "val", "split to select and stop by")
    select: str = option(RUN, "cider", "what the best checkpoint is best in", "cider", "loss")
    patience: int | None = option(
        RUN, None, "stop after this many epochs without a better one", least=1
    )
    log_every: int = option(RUN, 50, "optimizer steps between lines of metrics.jsonl", least=1)
    save_every: int = option(RUN, 500, "optimizer steps between saves of checkpoints/last", least=1)
    device: str = option(RUN, "auto", "auto, cpu, cuda, cuda:1 ...")
    precision: str = option(RUN, "auto", "arithmetic of matrix products", *PRECISIONS)
    learning_rate: float = option(OPTIMIZER, 1e-3, "Adam's step size, after the warm-up", above=0)
    lr_schedule: str = option(
        OPTIMIZER, "constant", "what it does until the last step", "constant", "linear", "cosine"
    )
    lr_min: float = option(
        OPTIMIZER, 0.0, "where it ends (linear, cosine)", least=0,
        only=("lr_schedule", "linear", "cosine"),
    )  # fmt: skip
    warmup_steps: int = option(OPTIMIZER, 0, "steps over which it rises from 0", least=0)
    weight_decay: float = option(
        OPTIMIZER, 0.0, "decoupled, of all weights (AdamW), where above 0", least=0
    )
    clip: float = option(OPTIMIZER, 5.0, "largest gradient norm", above=0)
    ema: float = option(
        OPTIMIZER,
        0.0,
        "decay of a moving average of the weights, which is validated and used",
        least=0,
        below=1,
    )

    def __post_init__(self) -> None:
        try:
            super().__post_init__()
            self._check_order("lr_min", "learning_rate")
        except ModelError as error:
            raise OptionError(str(error)) from error
        if self.epochs is not None and self.steps is not None:
            raise OptionError("--epochs and --steps: give one of them")

    def system_options(self, words: int, feature_size: int) -> SystemOptions:
        """Return the part that makes the network."""
        values = {f.name: getattr(self, f.name) for f in fields(ModelOptions)}
        return SystemOptions(words=words, feature_size=feature_size, **values)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; :func:`resolve` reads them back."""
        cache = without_password(str(self.cache))
        return {**asdict(self), "cache": cache, "run": str(self.run)}


def resolve(
    given: Mapping[str, Any],
    config: Path | None,
    *,
    preset: str | None = None,
    resume: bool = False,
) -> TrainOptions:
    """Return the options of ``preset``, those of ``config`` over them, and ``given`` over both.

    :param given: only what was said on the command line
    :param resume: start from what the run in ``given`` was begun with, if there is one.
    :raises OptionError: an unknown name, a value of the wrong type, or a contradiction.
    """
    if resume and config is None and (begun := Path(given["run"]) / "config.json").exists():
        config = begun
    values = dict(PRESETS[preset]) if preset else {}
    for above in (read_config(config) if config else {}, given):
        for one, other in (("steps", "epochs"), ("epochs", "steps")):
            if one in above and other not in above:
                values.pop(other, None)
        values |= above
    known = {f.name: f for f in fields(TrainOptions)}
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise OptionError(f"{config}: unknown option {name!r}{hint}")
    for name, entry in known.items():
        if name not in values and entry.default is MISSING:
            raise OptionError(f"{flag(name)} is missing; give it")
    return TrainOptions(**{name: _typed(known[name], v, config) for name, v in values.items()})


def read_config(path: Path) -> dict[str, Any]:
    """Read options from YAML or JSON; a run's own ``config.json`` will do.

    :raises OptionError: it is not a mapping of names to values.
    """
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise OptionError(f"{path}: not readable as a configuration ({_line(error)})") from error
    if isinstance(value, dict) and isinstance(value.get("options"), dict):
        value = value["options"]
    if not isinstance(value, dict):
        raise OptionError(f"{path}: expected names and values, as in `batch_size: 128`")
    return {str(name).replace("-", "_"): entry for name, entry in value.items()}


def _typed(entry: Any, value: Any, config: Path | None) -> Any:
    """Return ``value`` in the type of its field; numbers may come as integers."""
    if entry.name == "run":
        return Path(value)
    if entry.name == "cache":
        return value if "://" in str(value) else Path(value)
    if entry.name == "categories":
        return parse_categories(value)
    if value is None and entry.default is None:
        return None
    kind = kind_of(entry)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        where = config or "command line"
        raise OptionError(f"{where}: {entry.name} is {value!r}, expected {kind.__name__}")
    return value


def kind_of(entry: Any) -> Any:
    """Return the type of an option's value, of one that may be None that of the others."""
    return {"int | None": int, "float | None": float}.get(str(entry.type), entry.type)


def parse_categories(value: Any) -> tuple[int, ...]:
    """Read the sizes of the categorical variables: 128, "16x8" (eight of 16), "10,4", [10, 4].

    :raises OptionError: it is none of these.
    """
    try:
        if isinstance(value, str):
            size, _, count = value.partition("x")
            parts = value.split(",") if not count else [size] * int(count)
            return tuple(int(part) for part in parts)
        return (value,) if isinstance(value, int) else tuple(int(part) for part in value)
    except (TypeError, ValueError):
        raise OptionError(f"--categories {value}: write 128, 16x8 (eight of 16) or 10,4") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
