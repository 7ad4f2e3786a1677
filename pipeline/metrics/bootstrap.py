"""Bootstrap intervals over images and seeds, with the same images for all groups."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multispace.pipeline.console.progress import Progress

Floats = NDArray[np.float64]

BLOCK = 2**22  # weights of images in memory at once
LEVEL = 0.95


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    :param seeds: one per run, all different
    :param scores: one function per run, from weights of images (B, P) to scores (B, M)
    :raises ValueError: the seeds do not fit the runs, or one is repeated.
    """

    seeds: tuple[int, ...]
    scores: tuple[Callable[[Floats], Floats], ...]

    def __post_init__(self) -> None:
        if not self.seeds or len(self.seeds) != len(self.scores):
            raise ValueError(f"{len(self.seeds)} seeds for {len(self.scores)} runs")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {self.seeds}: one is repeated")


def bootstrap(groups: Sequence[Group], images: int, resamples: int, seed: int) -> Floats:
    """Return the scores of each group in each resample. (resamples, groups, M)

    A resample draws ``images`` images with replacement, the same ones for all runs, and as many
    runs of each group as the group has, with replacement. The score of a group is the mean over
    the drawn runs of their scores on the drawn images. This is the bootstrap of two crossed
    factors of Owen 2007, which is slightly conservative for many images and runs. Groups with the
    same seeds draw the same seeds, because a run's seed also orders its batches.
    """
    random = np.random.default_rng(seed)
    drawn = {}
    for group in groups:
        key = tuple(sorted(group.seeds))
        if key not in drawn:
            drawn[key] = random.integers(len(key), size=(resamples, len(key)))
    parts = []
    with Progress(resamples, "resamples", "bootstrap") as progress:
        for rows in _blocks(resamples, images):
            weights = _weights(random, len(rows), images)
            means = []
            for group in groups:
                order = np.argsort(group.seeds)
                runs = np.stack([group.scores[run](weights) for run in order])  # (S, B, M)
                seeds = drawn[tuple(sorted(group.seeds))][rows]  # (B, S)
                means.append(runs[seeds, np.arange(len(rows))[:, None]].mean(1))
            parts.append(np.stack(means, axis=1))
            progress.advance(len(rows))
    return np.concatenate(parts)


def interval(values: Floats) -> tuple[float, float]:
    """Return the 95 % percentile interval of the resampled values. (B,)

    A value that is NaN is unknown: it counts as lower than all others for the lower end, and as
    higher for the upper end. An end among unknown values is infinite.
    """
    unknown = np.isnan(values)
    with np.errstate(invalid="ignore"):  # between infinite values NumPy interpolates to NaN
        low = np.quantile(np.where(unknown, -np.inf, values), (1 - LEVEL) / 2)
        high = np.quantile(np.where(unknown, np.inf, values), (1 + LEVEL) / 2)
    return (
        -math.inf if math.isnan(low) else float(low),
        math.inf if math.isnan(high) else float(high),
    )


def _blocks(resamples: int, images: int) -> Iterator[NDArray[np.int64]]:
    size = max(1, BLOCK // images)
    for start in range(0, resamples, size):
        yield np.arange(start, min(start + size, resamples))


def _weights(random: np.random.Generator, rows: int, images: int) -> Floats:
    """Count how often each image is drawn. (rows, images)"""
    places = random.integers(images, size=(rows, images))
    places += np.arange(rows)[:, None] * images
    counts = np.bincount(places.ravel(), minlength=rows * images)
    return counts.reshape(rows, images).astype(float)
