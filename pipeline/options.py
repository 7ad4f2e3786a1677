"""The options of `train`: typed, validated together, one place for names, defaults and help."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from data.store import without_password
from model.errors import ModelError
from model.options import PRECISIONS, SYSTEMS, SystemOptions
from pipeline.errors import OptionError


def _option(default: Any, text: str, *choices: str) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True)
class TrainOptions:
    """What `train` is asked for. The help texts below are the command's."""

    system: str
    cache: Path | str  # a folder, or a URL
    run: Path
    epochs: int | None = _option(None, "passes over the training captions (20 without --steps)")
    steps: int | None = _option(None, "optimiser steps, in place of --epochs")
    batch_size: int = _option(128, "captions a step")
    learning_rate: float = _option(1e-3, "Adam's step size")
    weight_decay: float = _option(0.0, "decoupled weight decay (AdamW) where above 0")
    clip: float = _option(5.0, "largest gradient norm")
    seed: int = _option(0, "the one source of randomness")
    train_split: str = _option("train", "split to fit")
    val_split: str = _option("val", "split to select and stop by")
    select: str = _option("cider", "what the best checkpoint is best in", "cider", "loss")
    patience: int | None = _option(None, "stop after this many epochs without a better one")
    log_every: int = _option(50, "optimiser steps between lines of metrics.jsonl")
    save_every: int = _option(500, "optimiser steps between saves of checkpoints/last")
    device: str = _option("auto", "auto, cpu, cuda, cuda:1 ...")
    precision: str = _option("auto", "arithmetic of matrix products", *PRECISIONS)
    embedding: int = _option(512, "size of a word vector, and of base's picture vector")
    hidden: int = _option(512, "units of the LSTM")
    dropout: float = _option(0.0, "share of word vectors' and outputs' units left out in training")
    z_size: int = _option(128, "continuous dimensions (latent, multispace)")
    categories: tuple[int, ...] = _option((128,), "sizes of the categorical variables: 128, 16x8")
    temperature: float = _option(0.67, "of the Gumbel-softmax")
    annealing_midpoint: float = _option(2500, "step at which the KL weight is 0.5 (latent)")
    annealing_slope: float = _option(0.0025, "steepness of the KL weight (latent)")
    gamma_z: float = _option(0.05, "weight of |KL_z - C_z| (multispace)")
    gamma_c: float = _option(0.05, "weight of |KL_c - C_c| (multispace)")
    capacity_z_min: float = _option(30.0, "C_z at step 0, in nats")
    capacity_z_max: float = _option(30.0, "C_z after --capacity-steps, in nats")
    capacity_c_min: float = _option(0.0, "C_c at step 0, in nats")
    capacity_c_max: float = _option(4.5, "C_c after --capacity-steps, in nats")
    capacity_steps: int = _option(2500, "steps over which the capacities rise")

    def __post_init__(self) -> None:
        if self.system not in SYSTEMS:
            raise OptionError(f"system {self.system!r}: use one of {', '.join(SYSTEMS)}")
        if self.epochs is not None and self.steps is not None:
            raise OptionError("--epochs and --steps: give one of them")
        for name in ("batch_size", "log_every", "save_every"):
            self._at_least(name, 1)
        for name in ("epochs", "steps", "patience"):
            if getattr(self, name) is not None:
                self._at_least(name, 1)
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{flag(name)} {getattr(self, name)}: it must be above 0")
        self._at_least("weight_decay", 0)
        self._at_least("seed", 0)
        for option in fields(self):
            choices = option.metadata.get("choices")
            if choices and getattr(self, option.name) not in choices:
                raise OptionError(
                    f"{flag(option.name)} {getattr(self, option.name)}: "
                    f"use one of {', '.join(choices)}"
                )
        self.system_options(words=4, feature_size=1)  # its faults are found now, not after loading

    def _at_least(self, name: str, least: float) -> None:
        if getattr(self, name) < least:
            raise OptionError(f"{flag(name)} {getattr(self, name)}: it must be at least {least}")

    def system_options(self, words: int, feature_size: int) -> SystemOptions:
        """Return the part that makes the network."""
        names = {f.name for f in fields(SystemOptions)} - {"words", "feature_size"}
        values = {name: getattr(self, name) for name in names}
        try:
            return SystemOptions(words=words, feature_size=feature_size, **values)
        except ModelError as error:
            raise OptionError(str(error)) from error

    def to_json(self) -> dict[str, Any]:
        """Return plain values; :func:`resolve` reads them back."""
        cache = without_password(str(self.cache))
        return {**asdict(self), "cache": cache, "run": str(self.run)}


def flag(name: str) -> str:
    """Return how the option ``name`` is written on the command line."""
    return "--" + name.replace("_", "-")


def resolve(given: Mapping[str, Any], config: Path | None, *, resume: bool = False) -> TrainOptions:
    """Return the options of ``config`` with those of ``given`` above them.

    :param given: only what was said on the command line
    :param resume: start from what the run in ``given`` was begun with, if there is one.
    :raises OptionError: an unknown name, a value of the wrong type, or a contradiction.
    """
    if resume and config is None and (begun := Path(given["run"]) / "config.json").exists():
        config = begun
    values = {**(read_config(config) if config else {}), **given}
    if "steps" in given and "epochs" not in given:
        values.pop("epochs", None)
    if "epochs" in given and "steps" not in given:
        values.pop("steps", None)
    known = {f.name: f for f in fields(TrainOptions)}
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise OptionError(f"{config}: unknown option {name!r}{hint}")
    for name, option in known.items():
        if name not in values and option.default is MISSING:
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


def _typed(option: Any, value: Any, config: Path | None) -> Any:
    """Return ``value`` in the type of its field; numbers may come as integers."""
    if option.name == "run":
        return Path(value)
    if option.name == "cache":
        return value if "://" in str(value) else Path(value)
    if option.name == "categories":
        return parse_categories(value)
    if value is None and option.default is None:
        return None
    kind = {"int | None": int}.get(str(option.type), option.type)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        where = config or "command line"
        raise OptionError(f"{where}: {option.name} is {value!r}, expected {kind.__name__}")
    return value


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
