"""Compare evaluated runs over their seeds, with intervals of all differences."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from multispace.errors import OptionError, PipelineError
from multispace.pipeline.command_options.compare_options import CompareOptions
from multispace.pipeline.console.table import text_table
from multispace.pipeline.metrics.bootstrap import Group, bootstrap, interval
from multispace.pipeline.metrics.captions.metric import Floats
from multispace.pipeline.metrics.captions.registry import NAMES
from multispace.pipeline.metrics.content.attributes import OBJECTS_ROW
from multispace.pipeline.metrics.samples import diversity
from multispace.pipeline.reporting.export_tables import Table
from multispace.pipeline.runs.evaluation_formats import CAPTION_COLUMNS
from multispace.pipeline.runs.groups import (
    EvaluatedRun,
    check_same,
    grouped,
    read_run,
    shared_options,
)

FIRST = ("Bleu_4", "METEOR", "CIDEr", "ROUGE_L")  # columns that papers report
COLUMNS = (*FIRST, *(name for name in NAMES if name not in FIRST))
CHECKPOINTS = {"best": ("best",), "last": ("last",), "both": ("best", "last")}
INTERVALS = (
    "intervals: 95 %, percentiles of {resamples} resamples of {images} images, the same for "
    "all, and of the seeds of each system; BLEU and METEOR are recomputed from summed statistics"
)
CONTENT = "objects and attributes"
CONTENT_COLUMNS = {  # the class whose counts are divided, and which two
    f"{kind} {rate}": (kind, parts)
    for kind in (OBJECTS_ROW, "colour", "number")
    for rate, parts in (("precision", (1, 0)), ("recall", (3, 2)))
}
CONTENT_NOTE = (
    "objects and attributes: precision is the fraction of those named in captions that are right, "
    "the rest of the objects being hallucinated; recall that of those agreed on by the references"
)
ONE_SEED = "intervals of a system with one seed cover the choice of images, not of the seed"
FEW_SEEDS = "a bootstrap over n seeds understates their variance by a factor of (n - 1)/n"


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, its std over seeds (None for one seed), and its 95 % interval."""

    mean: float
    std: float | None
    low: float
    high: float


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

    def tables(self) -> list[Table]:
        """Return the scores and, where there are two groups or more, the differences."""
        rows = [[name, *map(_cell, cells.values())] for name, cells in self.groups.items()]
        head = ("", *(diversity.SHOWN.get(column, column) for column in self.columns))
        tables = [Table(self.title, head, rows)]
        if self.differences:
            rows = [
                [f"{b} minus {a}", *map(_range, cells.values())] for a, b, cells in self.differences
            ]
            tables.append(Table(f"{self.title}: differences", head, rows))
        return tables


@dataclass(frozen=True)
class Comparison:
    """Result of `compare`: scores of runs on one split, by the groups of the runs."""

    split: str
    images: int
    runs: dict[str, dict[str, int]]  # group -> run -> seed
    sections: tuple[Section, ...]
    captions: dict[str, dict[str, tuple[float, float | None]]]  # mean and std over seeds
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "sections": [section.to_json() for section in self.sections]}

    def render(self, form: str = "text") -> str:
        """Return all tables as ``text``, ``markdown`` or ``latex``."""
        if form == "text":
            shown = [text_table([t.title, *t.head[1:]], t.rows) for t in self.tables()]
            return "\n".join(shown)
        tables = self.tables()
        return "\n".join(
            (table.markdown() if form == "markdown" else table.latex()) + "\n" for table in tables
        )

    def tables(self) -> list[Table]:
        """Return all tables: scores, their differences, diversity, single captions."""
        rows = [
            [name, str(len(self.runs[name])), *(_spread(*cell) for cell in cells.values())]
            for name, cells in self.captions.items()
        ]
        single = Table("one caption per image", ("", "seeds", *CAPTION_COLUMNS), rows)
        first, *rest = (table for section in self.sections for table in section.tables())
        return [first, *rest, single]


def compare(options: CompareOptions) -> Comparison:
    """Compare the evaluations of runs.

    Runs that differ in their seed alone form a group: they share their options, the search for
    captions and the features.

    :raises PipelineError: a run is not evaluated on the split, or the runs do not compare.
    """
    return compare_groups(read_groups(options), options)


def read_groups(options: CompareOptions) -> dict[str, list[EvaluatedRun]]:
    """Return the evaluated runs by the name of their group.

    :raises PipelineError: as :func:`compare`.
    """
    if not options.runs:
        raise OptionError("give one or more", where="RUN")
    runs = [
        read_run(folder, options.split, checkpoint)
        for checkpoint in CHECKPOINTS[options.checkpoint]
        for folder in options.runs
    ]
    check_same(runs)
    return grouped(runs)


def compare_groups(
    groups: Mapping[str, Sequence[EvaluatedRun]], options: CompareOptions
) -> Comparison:
    """Compare groups of runs that are read already; see :func:`compare`."""
    runs = [run for members in groups.values() for run in members]
    images = runs[0].scored.record.images
    notes = [INTERVALS.format(resamples=options.resamples, images=images)]
    sizes = {len(members) for members in groups.values()}
    notes += [ONE_SEED] * (1 in sizes) + [FEW_SEEDS] * (max(sizes) > 1)
    if shared := shared_options(runs):
        notes.append(f"all with {shared}")
    columns, left_out = _columns(runs)
    if left_out:
        notes.append(f"not scored for all runs, and left out: {', '.join(left_out)}")
    title = f"{options.split}, {images} images"
    sections = [_section(title, columns, groups, _scores(columns), options)]
    sampled = {
        name: members
        for name, members in groups.items()
        if all(run.scored.samples is not None for run in members)
    }
    counts = {run.scored.record.samples for members in sampled.values() for run in members}
    if len(counts) == 1:
        title = f"diversity of {counts.pop()} samples per image"
        sections.append(_section(title, diversity.COLUMNS, sampled, _diversity, options))
    elif counts:
        notes.append(f"samples per image are {sorted(counts)}: diversity does not compare")
    stated = {
        name: members
        for name, members in groups.items()
        if all(run.scored.facts is not None for run in members)
    }
    if stated:
        sections.append(_section(CONTENT, tuple(CONTENT_COLUMNS), stated, _content, options))
        notes.append(CONTENT_NOTE)
    return Comparison(
        split=options.split,
        images=images,
        runs={name: {str(r.folder): r.seed for r in runs} for name, runs in groups.items()},
        sections=tuple(sections),
        captions={
            name: {
                column: _mean([run.scored.captions[column] for run in members])
                for column in CAPTION_COLUMNS
            }
            for name, members in groups.items()
        },
        notes=tuple(notes),
    )


def _columns(runs: Sequence[EvaluatedRun]) -> tuple[tuple[str, ...], list[str]]:
    """Return the scores that all runs have, and those that only some have."""
    held = [run.scored.corpus for run in runs]
    columns = tuple(c for c in COLUMNS if all(c in scores for scores in held))
    if not columns:
        raise PipelineError(
            "the runs have no score in common",
            where=runs[0].folder,
            hint="evaluate all of them with the same --metrics",
        )
    some = [c for c in COLUMNS if c not in columns and any(c in scores for scores in held)]
    return columns, some


def _scores(columns: Sequence[str]) -> Callable[[EvaluatedRun], Callable[[Floats], Floats]]:
    def of(run: EvaluatedRun) -> Callable[[Floats], Floats]:
        def scores(weights: Floats) -> Floats:
            found = run.scored.images.corpus(weights)
            return np.stack([found[column] for column in columns], axis=-1)

        return scores

    return of


def _diversity(run: EvaluatedRun) -> Callable[[Floats], Floats]:
    values = run.scored.samples
    assert values is not None  # only runs with samples are asked
    return lambda weights: weights @ values / weights.sum(-1, keepdims=True)


def _content(run: EvaluatedRun) -> Callable[[Floats], Floats]:
    facts = run.scored.facts
    assert facts is not None  # only runs with counts are asked
    none = np.zeros((run.scored.record.images, 4))

    def rates(weights: Floats) -> Floats:
        sums = {kind: weights @ facts.get(kind, none) for kind, _ in CONTENT_COLUMNS.values()}
        parts = [(sums[kind][:, a], sums[kind][:, b]) for kind, (a, b) in CONTENT_COLUMNS.values()]
        return np.stack([part / np.maximum(whole, 1) for part, whole in parts], axis=-1)

    return rates


def _section(
    title: str,
    columns: tuple[str, ...],
    groups: Mapping[str, Sequence[EvaluatedRun]],
    scorer: Callable[[EvaluatedRun], Callable[[Floats], Floats]],
    options: CompareOptions,
) -> Section:
    scorers = {name: tuple(map(scorer, runs)) for name, runs in groups.items()}
    resampled = [
        Group(tuple(run.seed for run in runs), scorers[name]) for name, runs in groups.items()
    ]
    images = next(iter(groups.values()))[0].scored.record.images
    draws = bootstrap(resampled, images, options.resamples, options.seed)
    whole = np.ones((1, images))
    runs = {n: np.concatenate([score(whole) for score in each]) for n, each in scorers.items()}
    names = list(groups)
    return Section(
        title,
        columns,
        {
            name: _estimates(columns, runs[name], draws[:, place])
            for place, name in enumerate(names)
        },
        tuple(
            (
                names[a],
                names[b],
                _estimates(
                    columns,
                    (runs[names[b]].mean(0) - runs[names[a]].mean(0))[None],
                    draws[:, b] - draws[:, a],
                ),
            )
            for a, b in combinations(range(len(names)), 2)
        ),
    )


def _estimates(columns: Iterable[str], values: Floats, draws: Floats) -> dict[str, Estimate]:
    """Return an estimate per column of the values of S runs and of B resamples. (S, M), (B, M)"""
    return {
        column: Estimate(*_mean(values[:, k].tolist()), *interval(draws[:, k]))
        for k, column in enumerate(columns)
    }


def _mean(values: Sequence[float]) -> tuple[float, float | None]:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), std


def _plain(cells: Mapping[str, Estimate]) -> dict[str, Any]:
    return {column: asdict(estimate) for column, estimate in cells.items()}


def _cell(estimate: Estimate) -> str:
    return _spread(estimate.mean, estimate.std)


def _spread(mean: float, std: float | None) -> str:
    digits = 3 if abs(mean) < 10 else 0
    around = "" if std is None else f" ± {std:.{digits}f}"
    return f"{mean:.{digits}f}{around}"


def _range(estimate: Estimate) -> str:
    return f"{estimate.mean:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"
