"""The options of `train`: typed, checked together, and read from files and the command line."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

from multispace.data.documents import DocumentFormat, MapOf
from multispace.errors import OptionError, shown, without_password
from multispace.fields import (
    Choices,
    Options,
    Range,
    default_of,
    flag,
    option,
    required,
    unused_option,
    value_type,
)
from multispace.model.options import (
    DECODER,
    LATENT,
    MULTISPACE,
    PRECISIONS,
    SPACE,
    SYSTEMS,
    ModelOptions,
    SystemOptions,
    is_used,
)
from multispace.pipeline.command_options.presets import PRESETS, preset_options

# More than any model has; `2x3000000000` must not exhaust memory.
MAX_VARIABLES, MAX_CATEGORIES = 1 << 10, 1 << 20
MAX_TEXT = 4096
CONFIG = DocumentFormat(
    MapOf(),
    error=OptionError,
    hint="write names and values, as in `batch_size: 128`",
    max_bytes=1 << 20,
    max_depth=8,
)

EXPONENT = re.compile(r"[-+]?[0-9]{1,20}([.][0-9]{0,20})?[eE][-+]?[0-9]{1,3}")

RUN, OPTIMIZER = "Run", "Optimizer"
GROUPS = (RUN, OPTIMIZER, DECODER, SPACE, LATENT, MULTISPACE)


@dataclass(frozen=True, kw_only=True)
class TrainRequest(Options):
    """Options of `train` that a config file cannot set."""

    config: Path | None = option(
        "Read options from a YAML file, or from the config.json of a run.", None, path="file"
    )
    preset: str | None = option(
        "A named set of options; --config and the command line override it.", None,
        choices=tuple(PRESETS),
    )  # fmt: skip
    wandb: str | None = option(
        "Also log to this project of Weights & Biases.", None, metavar="PROJECT",
        group=RUN,
    )  # fmt: skip
    wandb_images: Path | None = option(
        "The image folder, for images in the log of --wandb.", None,
        path="dir", group=RUN,
    )  # fmt: skip
    dry_run: bool = option("Only print the resolved options and model sizes.", False)
    resume: bool = option("Continue the run from its last checkpoint.", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.wandb_images is not None and self.wandb is None:
            raise OptionError("it needs --wandb", where=f"--wandb-images {self.wandb_images}")


@dataclass(frozen=True, kw_only=True)
class TrainOptions(ModelOptions):
    """Options of `train`."""

    cache: Path | str = field(
        metadata=required(
            "The feature cache: a folder or a URL.",
            metavar="DIR|URL",
            default_text="required without --config or --resume",
            common=True,
        )
    )
    run: Path = field(metadata=required("The run folder to create.", path="dir", common=True))
    epochs: int | None = option(
        "Passes over the training captions.", None, min=1, group=RUN, common=True,
        default_text="20",
    )  # fmt: skip
    steps: int | None = option(
        "Optimizer steps, instead of --epochs.", None, min=1, group=RUN, common=True
    )
    batch_size: int = option("Captions per process and step.", 128, min=1, group=RUN, common=True)
    seed: int = option("Seed of all random numbers.", 0, min=0, group=RUN, common=True)
    train_split: str = option("Split to train on.", "train", group=RUN)
    val_split: str = option("Split to validate on.", "val", group=RUN)
    select: str = option(
        "Validation score that selects the best checkpoint.", "cider",
        choices=("cider", "loss"), group=RUN,
    )  # fmt: skip
    validate_every: int | None = option(
        "Optimizer steps between two validations, instead of one validation per epoch; the last "
        "step is always validated.", None, min=1, group=RUN,
    )  # fmt: skip
    patience: int | None = option(
        "Stop after this many epochs, or validations with --validate-every, without a better "
        "checkpoint.", None, min=1, group=RUN,
    )  # fmt: skip
    log_every: int = option(
        "Optimizer steps between two lines of metrics.jsonl.", 50, min=1, group=RUN
    )
    save_every: int = option(
        "Optimizer steps between two saves of checkpoints/last.", 500, min=1, group=RUN
    )
    device: str = option(
        "Device: auto, cpu, cuda, cuda:1 ...", "auto", metavar="DEVICE", group=RUN, common=True
    )
    precision: str = option("Data type of matrix products.", "auto", choices=PRECISIONS, group=RUN)
    learning_rate: float = option(
        "Learning rate of Adam.", 1e-3, exclusive_min=0, group=OPTIMIZER, common=True,
        search=Range(3e-4, 1e-2, log=True),
    )  # fmt: skip
    lr_schedule: str = option(
        "Schedule of the learning rate until the last step.", "constant",
        choices=("constant", "linear", "cosine"), group=OPTIMIZER,
        search=Choices(("constant", "cosine")),
    )  # fmt: skip
    lr_min: float = option(
        "Learning rate at the last step (linear, cosine).", 0.0,
        min=0, requires=("lr_schedule", "linear", "cosine"), group=OPTIMIZER,
    )  # fmt: skip
    warmup_steps: int = option(
        "Steps over which the learning rate rises from 0.", 0, min=0, group=OPTIMIZER
    )
    weight_decay: float = option(
        "Decoupled weight decay; above 0, AdamW is used.", 0.0, min=0, group=OPTIMIZER
    )
    clip: float = option(
        "Maximum gradient norm; larger gradients are clipped.", 5.0,
        exclusive_min=0, group=OPTIMIZER,
    )  # fmt: skip
    ema: float = option(
        "Decay of the moving average of the weights, which is used for validation and inference.",
        0.0, min=0, exclusive_max=1, group=OPTIMIZER,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_order("lr_min", "learning_rate")
        if self.epochs is not None and self.steps is not None:
            raise OptionError("give one of them", where="--epochs and --steps")

    def system_options(self, words: int, feature_size: int) -> SystemOptions:
        """Return the options that make the network."""
        values = {f.name: getattr(self, f.name) for f in fields(ModelOptions)}
        return SystemOptions(words=words, feature_size=feature_size, **values)

    def to_json(self) -> dict[str, Any]:
        """Return the options that the system uses, as plain values.

        :func:`resolve` reads them back.
        """
        cache = without_password(str(self.cache))
        return {**self.used(), "cache": cache, "run": str(self.run)}


def without_places(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return recorded options without those that name places of a machine, or are unknown.

    :param options: the ``options`` of a run's ``config.json``
    """
    places = {f.name for f in fields(TrainOptions) if f.type is Path or Path in get_args(f.type)}
    known = {f.name for f in fields(TrainOptions)} - places
    return {name: value for name, value in options.items() if name in known}


def resolve(
    given: Mapping[str, Any],
    config: Path | None,
    *,
    preset: str | None = None,
    resume: bool = False,
) -> TrainOptions:
    """Combine a preset, a config file and the command line; each overrides the one before.

    :param given: the options that were given on the command line, and no others
    :param resume: start from the options that the run in ``given`` began with, if there is one
    :raises OptionError: an unknown name, a value of the wrong type, an option that the system
        does not use, or a contradiction.
    """
    resumed = resume and config is None and (Path(given["run"]) / "config.json").exists()
    if resumed:
        config = Path(given["run"]) / "config.json"
    read, recorded = read_config(config) if config else ({}, False)
    known = {f.name: f for f in fields(TrainOptions)}
    _check_names({**read, **given}, known, config)
    read = {name: _typed(known[name], value, config) for name, value in read.items()}
    given = {name: _typed(known[name], value, None) for name, value in given.items()}
    system = str(given.get("system") or read.get("system") or "")
    if not system:
        raise OptionError(
            "the system is missing",
            where="SYSTEM",
            hint="name it, or give --config FILE, or --resume with the --run of a training",
        )
    if recorded:  # earlier versions recorded all options, whether the system used them or not
        read = {
            name: value
            for name, value in read.items()
            if is_used(name, system) or not (resumed or value == default_of(known[name], system))
        }
    values = preset_options(preset, system) if preset else {}
    for values_above, origin in ((read, config), (given, None)):
        _check_used(values_above, known, system, origin)
        for one, other in (("steps", "epochs"), ("epochs", "steps")):
            if one in values_above and other not in values_above:
                values.pop(other, None)
        values |= values_above
    for name, entry in known.items():
        if name not in values and entry.default is MISSING:
            raise OptionError(f"{flag(entry)} is missing", hint="give it")
    return TrainOptions(**values)


def read_config(path: Path) -> tuple[dict[str, Any], bool]:
    """Read options from YAML or JSON, and say whether they are those that a run recorded.

    :raises OptionError: it cannot be read, or does not hold names and values.
    """
    value = CONFIG.read_json(path) if path.suffix == ".json" else CONFIG.read_yaml(path)
    recorded = isinstance(value.get("options"), dict)
    if recorded:
        value = value["options"]
    return {name.replace("-", "_"): entry for name, entry in value.items()}, recorded


def _check_names(
    names: Iterable[str], known: Mapping[str, Field[Any]], config: Path | None
) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise OptionError(
                f"unknown option {name!r}",
                where=config,
                hint=f"did you mean {near[0]}?" if near else None,
            )


def _check_used(
    values: Mapping[str, Any], known: Mapping[str, Field[Any]], system: str, origin: Path | None
) -> None:
    """Refuse options that are given although the system does not use them."""
    if system not in SYSTEMS:
        return  # `TrainOptions` refuses it
    for name, value in values.items():
        if not is_used(name, system):
            raise unused_option(known[name], value, system, origin)


def _typed(entry: Field[Any], value: Any, config: Path | None) -> Any:
    """Return ``value`` in the type of its field.

    Integers are accepted for floats, and so is the text ``1e-3``: YAML 1.1 reads numbers without
    a point as text.
    """
    if entry.name == "run":
        return Path(value)
    if entry.name == "cache":
        return value if "://" in str(value) else Path(value)
    if value is None and entry.default is None:
        return None
    if entry.name == "categories":
        return parse_categories(value)
    if isinstance(value, str) and len(value) > MAX_TEXT:
        what = f"{entry.name} has {len(value)} characters, at most {MAX_TEXT} are allowed"
        raise OptionError(what, where=config or "command line")
    kind = value_type(entry)
    if kind in (int, float) and isinstance(value, str) and EXPONENT.fullmatch(value):
        number = float(value)
        whole = kind is int and number.is_integer() and abs(number) < 1 << 53
        value = int(number) if whole else number
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        where = config or "command line"
        raise OptionError(f"{entry.name} is {shown(value)}, expected {kind.__name__}", where=where)
    return value


def parse_categories(value: Any) -> tuple[int, ...]:
    """Read the sizes of the categorical variables: 128, "16x8" (eight of 16), "10,4", [10, 4].

    :raises OptionError: the value has another form.
    """
    try:
        if isinstance(value, str):
            size, _, count = value.partition("x")
            if count and int(count) > MAX_VARIABLES:
                raise ValueError
            parts: Any = value.split(",") if not count else [size] * int(count)
        else:
            parts = [value] if isinstance(value, int) else value
        sizes = tuple(int(part) for part in parts)
        if len(sizes) > MAX_VARIABLES or max(sizes, default=0) > MAX_CATEGORIES:
            raise ValueError
    except (TypeError, ValueError):
        raise OptionError(
            f"write 128, 16x8 (eight of 16) or 10,4, at most {MAX_VARIABLES} variables of "
            f"{MAX_CATEGORIES} categories",
            where=f"--categories {shown(value)}",
        ) from None
    return sizes
