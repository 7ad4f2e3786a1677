"""The plan of a training (`train --dry-run`): options, sizes and steps. Nothing is written."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
import yaml

from multispace.data.batches import load_pairs
from multispace.data.cache.reader import Cache
from multispace.model.systems import build
from multispace.pipeline.cache_transfer import local_cache
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.training.loop import count_steps


@dataclass(frozen=True)
class Plan:
    """What `train` would do with some options.

    :param warnings: one line for each choice that is unlikely to work well
    """

    options: dict[str, Any]
    words: int
    feature_size: int
    parameters: int
    captions: int
    steps_per_epoch: int
    steps: int
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def render(self) -> str:
        """Return the options as YAML, which ``--config`` reads, and the sizes as comments."""
        sizes = asdict(self)
        for name in ("options", "warnings"):
            del sizes[name]
        options = {n: list(v) if isinstance(v, tuple) else v for n, v in self.options.items()}
        lines = [f"# {name}: {value:,}" for name, value in sizes.items()]
        return yaml.safe_dump(options, sort_keys=False) + "\n".join(lines)

    @property
    def notes(self) -> tuple[str, ...]:
        """The warnings."""
        return self.warnings


def plan(options: TrainOptions) -> Plan:
    """Return the plan of a training, from the cache as it is now.

    :raises CacheError: there is no such cache, or it has no such split.
    """
    cache = Cache.open(local_cache(options.cache))
    words = len(cache.vocabulary())
    captions = len(load_pairs(cache, options.train_split))
    with torch.device("meta"):  # sizes without memory
        system = build(options.system_options(words, cache.spec.dimension))
    per_epoch, steps = count_steps(options, captions, options.batch_size)
    return Plan(
        options=options.to_json(),
        words=words,
        feature_size=cache.spec.dimension,
        parameters=sum(p.numel() for p in system.parameters()),
        captions=captions,
        steps_per_epoch=per_epoch,
        steps=steps,
        warnings=tuple(system.warnings()),
    )
