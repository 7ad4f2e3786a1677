"""What a training would be: its options, its size, its steps; nothing is trained or written."""

from dataclasses import dataclass
from typing import Any

import torch

from multispace.data.batches import load_pairs
from multispace.data.cache.reader import Cache
from multispace.model.systems import build
from multispace.pipeline.train import count_steps
from multispace.pipeline.training.train_options import TrainOptions
from multispace.pipeline.transfer import local_cache


@dataclass(frozen=True)
class Plan:
    """What ``train`` would do with these options."""

    options: dict[str, Any]
    words: int
    feature_size: int
    parameters: int
    captions: int
    steps_per_epoch: int
    steps: int
    warnings: tuple[str, ...]


def plan(options: TrainOptions) -> Plan:
    """Resolve everything that `train` would, from the cache as it is.

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
