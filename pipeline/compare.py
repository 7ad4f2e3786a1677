"""Compare evaluated runs over their seeds, with intervals of all differences."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np

from multispace.errors import OptionError, PipelineError
from multispace.pipeline.command_options.compare_options import CompareOptions
from multispace.pipeline.comparison.equal_diversity import CurveComparison, compare_curves
from multispace.pipeline.comparison.sample_sections import sample_sections
from multispace.pipeline.comparison.sections import (
    Section,
    bootstrap_section,
    spread,
    std_over,
)
from multispace.pipeline.console.printable import one_line
from multispace.pipeline.console.progress import Progress
from multispace.pipeline.metrics.captions.metric import Floats
from multispace.pipeline.metrics.captions.registry import NAMES
from multispace.pipeline.metrics.content.attributes import OBJECTS_ROW
from multispace.pipeline.reporting.export_tables import Table, escape_markdown, latex_comment
from multispace.pipeline.runs.evaluation_formats import CAPTION_COLUMNS
from multispace.pipeline.runs.group_names import named_groups
from multispace.pipeline.runs.groups import (
    EvaluatedRun,
    check_same,
    grouped,
    read_run,
    shared_options,
)
from multispace.pipeline.runs.signature import Signature, evaluation_signature

CAPTION_LABELS = {  # CAPTION_COLUMNS as tables name them
    "distinct_share": "distinct captions",
    "novel_share": "novel captions",
    "words": "different words",
}
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
class Comparison:
    """Result of `compare`: scores of runs on one split, by the groups of the runs."""

    split: str
    images: int
    runs: dict[str, dict[str, int]]  # group -> run -> seed
    sections: tuple[Section, ...]
    has_samples: bool  # whether a section is about samples
    curves: CurveComparison
    captions: dict[str, dict[str, tuple[float, float | None]]]  # mean and std over seeds
    notes: tuple[str, ...]
    signatures: dict[str, str]  # of the scores of each group

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        sections = [section.to_json() for section in self.sections]
        return {**asdict(self), "sections": sections, "curves": self.curves.to_json()}

    def render(self, form: str = "text") -> str:
        """Return all tables as ``text``, ``markdown`` or ``latex``, and the verdicts."""
        tables, verdicts = self.tables(), self.curves.verdicts
        if form == "text":  # the signatures are wider than a terminal, and stand among the notes
            shown = [table.text() for table in tables]
            return "\n\n".join([*shown, *filter(None, ["\n".join(verdicts)])])
        lines = [*verdicts, *_signature_lines(self.signatures)]
        if form == "markdown":
            shown = [table.markdown() for table in tables]
            lines = [escape_markdown(line) for line in lines]
        else:
            shown = [table.latex() for table in tables]
            lines = [latex_comment(line) for line in lines]
        return "\n".join(f"{part}\n" for part in (*shown, *lines))

    def tables(self) -> list[Table]:
        """Return all tables: scores, their differences, samples, curves, single captions."""
        rows = [
            [
                one_line(name),
                str(len(self.runs[name])),
                *(_caption_cell(column, *cell) for column, cell in cells.items()),
            ]
            for name, cells in self.captions.items()
        ]
        single = Table("one caption per image", ("", "seeds", *CAPTION_LABELS.values()), rows)
        shown = [table for section in self.sections for table in section.tables()]
        return [*shown, *self.curves.tables(), single]


def _signature_lines(signatures: Mapping[str, str]) -> list[str]:
    return [f"signature of {name}: {text}" for name, text in signatures.items()]


def compare(options: CompareOptions) -> Comparison:
    """Compare the evaluations of runs.

    Runs that differ in their seed alone form a group: they share their options, the search for
    captions and the features.

    :raises PipelineError: a run is not evaluated on the split, or the runs do not compare.
    """
    return compare_groups(read_groups(options), options)


def read_groups(options: CompareOptions) -> dict[str, list[EvaluatedRun]]:
    """Return the evaluated runs by the name of their group.

    :raises OptionError: a name in ``options.names`` does not fit one group.
    :raises PipelineError: as :func:`compare`.
    """
    if not options.runs:
        raise OptionError("give one or more", where="RUN")
    wanted = list(product(CHECKPOINTS[options.checkpoint], options.runs))
    runs = []
    with Progress(len(wanted), "runs", "evaluations") as progress:
        for checkpoint, folder in wanted:
            runs.append(read_run(folder, options.split, checkpoint))
            progress.advance()
    check_same(runs)
    return named_groups(grouped(runs), options.names)


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
    asked = options.resamples, options.seed
    scores = bootstrap_section(title, columns, groups, _scores(columns), *asked)
    samples, sample_notes = sample_sections(groups, *asked)
    sections, notes = [scores, *samples], [*notes, *sample_notes]
    stated = {
        name: members
        for name, members in groups.items()
        if all(run.scored.facts is not None for run in members)
    }
    if stated:
        sections.append(
            bootstrap_section(CONTENT, tuple(CONTENT_COLUMNS), stated, _content, *asked)
        )
        notes.append(CONTENT_NOTE)
    curves = compare_curves(groups, options.reference, options.reference_temperature, *asked)
    signatures = {
        name: str(
            Signature.joined([evaluation_signature(r.scored.record, r.seed) for r in members])
        )
        for name, members in groups.items()
    }
    return Comparison(
        split=options.split,
        images=images,
        runs={name: {str(r.folder): r.seed for r in runs} for name, runs in groups.items()},
        sections=tuple(sections),
        has_samples=bool(samples),
        curves=curves,
        captions={
            name: {
                column: _mean([run.scored.captions[column] for run in members])
                for column in CAPTION_COLUMNS
            }
            for name, members in groups.items()
        },
        notes=(*notes, *curves.notes, *_signature_lines(signatures)),
        signatures=signatures,
    )


def _columns(runs: Sequence[EvaluatedRun]) -> tuple[tuple[str, ...], list[str]]:
    """Return the scores that all runs have, and those that only some have."""
    held = [run.scored.corpus for run in runs]
    columns = tuple(c for c in NAMES if all(c in scores for scores in held))
    if not columns:
        raise PipelineError(
            "the runs have no score in common",
            where=runs[0].folder,
            hint="evaluate all of them with the same --metrics",
        )
    some = [c for c in NAMES if c not in columns and any(c in scores for scores in held)]
    return columns, some


def _scores(columns: Sequence[str]) -> Callable[[EvaluatedRun], Callable[[Floats], Floats]]:
    def of(run: EvaluatedRun) -> Callable[[Floats], Floats]:
        def scores(weights: Floats) -> Floats:
            found = run.scored.images.corpus(weights)
            return np.stack([found[column] for column in columns], axis=-1)

        return scores

    return of


def _content(run: EvaluatedRun) -> Callable[[Floats], Floats]:
    facts = run.scored.facts
    assert facts is not None  # only runs with counts are asked
    none = np.zeros((run.scored.record.images, 4))

    def rates(weights: Floats) -> Floats:
        sums = {kind: weights @ facts.get(kind, none) for kind, _ in CONTENT_COLUMNS.values()}
        parts = [(sums[kind][:, a], sums[kind][:, b]) for kind, (a, b) in CONTENT_COLUMNS.values()]
        return np.stack([part / np.maximum(whole, 1) for part, whole in parts], axis=-1)

    return rates


def _mean(values: Sequence[float]) -> tuple[float, float | None]:
    return float(np.mean(values)), std_over(np.array(values))


def _caption_cell(column: str, mean: float, std: float | None) -> str:
    """Return a fraction as a percentage, and a number of words as a whole number."""
    if column != "words":
        return spread(mean, std, ".1%")
    return spread(mean, std, ".0f" if std is None else ".1f")
