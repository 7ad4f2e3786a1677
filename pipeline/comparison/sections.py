"""Scores of groups of runs with the differences of all pairs, each with its interval."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from multispace.pipeline.console.printable import one_line
from multispace.pipeline.metrics.bootstrap import Group, bootstrap, interval
from multispace.pipeline.metrics.captions.metric import Floats
from multispace.pipeline.metrics.captions.metric_names import LABELS
from multispace.pipeline.metrics.samples import diversity
from multispace.pipeline.reporting.export_tables import Table
from multispace.pipeline.runs.groups import EvaluatedRun

EXCLUDES_ZERO = "*: the 95 % interval excludes 0 (not corrected for the number of differences)"

Groups = Mapping[str, Sequence[EvaluatedRun]]
Scorer = Callable[[Floats], Floats]  # from weights of images (B, P) to scores (B, M)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, its std over seeds (None for one seed), and its 95 % interval."""

    mean: float
    std: float | None
    low: float
    high: float

    def spread(self) -> str:
        """Return the mean, and the std if there is one."""
        return spread(self.mean, self.std)

    def difference(self) -> str:
        """Return the mean with its sign, marked if the interval excludes 0, and the interval.

        Each number is on a line of its own.
        """
        mark = "*" if self.low > 0 or self.high < 0 else ""
        return f"{self.mean:+.3f}{mark}\n[{self.low:+.3f},\n{self.high:+.3f}]"

    def range(self) -> str:
        """Return the mean with its sign, and the interval."""
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


@dataclass(frozen=True)
class Section:
    """Scores of one kind: of each group by name, and differences of two groups.

    A difference is (first group, second group, second minus first).
    """

    title: str
    columns: tuple[str, ...]
    groups: dict[str, dict[str, Estimate]]
    differences: tuple[tuple[str, str, dict[str, Estimate]], ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "title": self.title,
            "groups": {name: _plain(cells) for name, cells in self.groups.items()},
            "differences": [
                {"from": a, "to": b, "scores": _plain(cells)} for a, b, cells in self.differences
            ],
        }

    def labels(self) -> tuple[str, ...]:
        """Return the columns as tables name them."""
        labels = LABELS | diversity.SHOWN
        return tuple(labels.get(column, column) for column in self.columns)

    def tables(self) -> list[Table]:
        """Return the scores and, where there are two groups or more, the differences."""
        head = ("", *self.labels())
        rows = [
            [one_line(name), *(c.spread() for c in cells.values())]
            for name, cells in self.groups.items()
        ]
        tables = [Table(self.title, head, rows)]
        if self.differences:
            rows = [
                [one_line(f"{b} minus {a}"), *(cell.difference() for cell in cells.values())]
                for a, b, cells in self.differences
            ]
            title = f"{self.title}: differences, 95 % intervals"
            tables.append(Table(title, head, rows, EXCLUDES_ZERO))
        return tables


def bootstrap_section(
    title: str,
    columns: tuple[str, ...],
    groups: Groups,
    scorer: Callable[[EvaluatedRun], Scorer],
    resamples: int,
    seed: int,
) -> Section:
    """Return the scores of groups, whose score on some images is the mean over their runs.

    :param scorer: returns the scores of a run, one for each of ``columns``
    """
    scorers = {name: tuple(map(scorer, runs)) for name, runs in groups.items()}
    runs, draws = bootstrapped(groups, scorers, resamples, seed)
    return section_of(title, columns, runs, {n: v.mean(0) for n, v in runs.items()}, draws)


def mean_over_images(values: Floats) -> Scorer:
    """Return the scorer of scores that are means over images.

    :param values: of each image, (P, M)
    """
    return lambda weights: weights @ values / weights.sum(-1, keepdims=True)


def bootstrapped(
    groups: Groups, scorers: Mapping[str, tuple[Scorer, ...]], resamples: int, seed: int
) -> tuple[dict[str, Floats], Floats]:
    """Return the scores of runs on all images, and those of their groups in B resamples.

    :param scorers: of the S runs of each group
    :returns: (S, M) for each group, and (B, groups, M)
    """
    images = next(iter(groups.values()))[0].scored.record.images
    seeds = {name: tuple(run.seed for run in runs) for name, runs in groups.items()}
    draws = bootstrap([Group(seeds[n], scorers[n]) for n in groups], images, resamples, seed)
    whole = np.ones((1, images))
    return {n: np.concatenate([score(whole) for score in scorers[n]]) for n in groups}, draws


def section_of(
    title: str,
    columns: tuple[str, ...],
    runs: Mapping[str, Floats],
    means: Mapping[str, Floats],
    draws: Floats,
) -> Section:
    """Return a section of values that are computed already.

    :param runs: the scores of the S runs of each group, (S, M); NaN where a run has none
    :param means: the scores of each group, (M,)
    :param draws: the scores of the groups in B resamples, (B, groups, M)
    """
    names = list(runs)
    return Section(
        title,
        columns,
        {
            name: _estimates(columns, means[name], runs[name], draws[:, place])
            for place, name in enumerate(names)
        },
        tuple(
            (
                names[a],
                names[b],
                _estimates(
                    columns, means[names[b]] - means[names[a]], None, draws[:, b] - draws[:, a]
                ),
            )
            for a, b in combinations(range(len(names)), 2)
        ),
    )


def spread(mean: float, std: float | None, form: str = ".3f") -> str:
    """Return a mean and, on a line of its own, its std if there is one."""
    return f"{mean:{form}}" + ("" if std is None else f"\n± {std:{form}}")


def std_over(values: Floats) -> float | None:
    """Return the std over runs; None for one run, or where a run has no value. (S,)"""
    return float(np.std(values, ddof=1)) if len(values) > 1 and np.isfinite(values).all() else None


def _estimates(
    columns: Iterable[str], means: Floats, runs: Floats | None, draws: Floats
) -> dict[str, Estimate]:
    """Return an estimate per column.

    :param means: (M,)
    :param runs: (S, M); None for a difference, which has no std
    :param draws: (B, M)
    """
    return {
        column: Estimate(
            float(means[k]), None if runs is None else std_over(runs[:, k]), *interval(draws[:, k])
        )
        for k, column in enumerate(columns)
    }


def _plain(cells: Mapping[str, Estimate]) -> dict[str, Any]:
    return {column: asdict(estimate) for column, estimate in cells.items()}
