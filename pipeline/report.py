"""Write one self-contained HTML page about evaluated runs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from multispace.data.files import atomic_write
from multispace.errors import Error, PipelineError
from multispace.exit_status import SKIPPED
from multispace.pipeline.command_options.report_options import ReportOptions
from multispace.pipeline.compare import CompareOptions, Comparison, compare_groups, read_groups
from multispace.pipeline.reporting.conclusion import conclude
from multispace.pipeline.reporting.curves import READING, Curve, draw_curves
from multispace.pipeline.reporting.diversity_plot import READING as DIVERSITY_READING
from multispace.pipeline.reporting.diversity_plot import draw_diversity
from multispace.pipeline.reporting.examples import Examples, read_examples
from multispace.pipeline.reporting.group_marks import COLOURS, GroupMark, group_mark
from multispace.pipeline.reporting.group_parts import PARTS, Part, other_verdicts, read_parts
from multispace.pipeline.reporting.page_tables import PageTable, comparison_tables, copy_texts
from multispace.pipeline.reporting.page_template import page_script, page_template
from multispace.pipeline.reporting.reproduction import (
    Groups,
    commands,
    data_line,
    options_table,
    runs_table,
)
from multispace.pipeline.reporting.traversals import read_traversals
from multispace.pipeline.runs.group_names import short_names
from multispace.pipeline.runs.groups import EvaluatedRun
from multispace.pipeline.runs.run_cache import recorded_cache
from multispace.pipeline.runs.run_folder import read_run_config
from multispace.pipeline.training.metrics_log import METRICS, read_log
from multispace.version import package_version

TEMPLATE, SCRIPT = "report.html.j2", "report_script.js.j2"
SCALES = ("linear", "log")  # of the axes of the learning curves
NO_SAMPLES = "diversity of samples: no samples, or not the same number in all groups"


@dataclass(frozen=True)
class Report:
    """Result of `report`: the page, what it contains and what was left out."""

    out: Path
    bytes: int
    groups: dict[str, list[str]]  # the folders of the runs
    included: tuple[str, ...]
    left_out: tuple[str, ...]
    skipped: tuple[str, ...]  # images that could not be shown

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "out": str(self.out)}

    def render(self) -> str:
        """Return one line about the page."""
        return f"written to {self.out}, {self.bytes / 1e3:.0f} kB: {', '.join(self.included)}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, one line each."""
        return tuple(f"left out: {line}" for line in self.left_out)

    def messages(self) -> tuple[str, ...]:
        """Return a line for each image that could not be shown."""
        return tuple(f"skipped: {line}" for line in self.skipped)

    @property
    def exit_status(self) -> int:
        """3 if images could not be shown."""
        return SKIPPED if self.skipped else 0


def report(options: ReportOptions) -> Report:
    """Write one HTML page from the evaluations and the training logs of runs.

    :raises PipelineError: a run is not evaluated on the split, the runs do not compare, or a file
        is damaged.
    """
    asked = CompareOptions(
        options.runs,
        options.split,
        options.checkpoint,
        options.names,
        options.resamples,
        options.seed,
        options.reference,
        options.reference_temperature,
    )
    full = read_groups(asked)
    names = short_names(full)
    groups = {names[name]: runs for name, runs in full.items()}
    reference = names.get(asked.reference, asked.reference)
    comparison = compare_groups(groups, replace(asked, reference=reference))
    first = {name: min(members, key=lambda run: run.seed) for name, members in groups.items()}
    parts, without_parts = read_parts(first)
    marks = _marks(groups)
    curves, without_curves = _curves(groups, marks)
    examples, skipped, without_examples = _examples(options, first)
    traversals = {name: read_traversals(run.folder, options.split) for name, run in first.items()}
    without_samples = [] if comparison.has_samples else [NO_SAMPLES]
    left_out = [*without_samples, *without_parts, *without_curves, *without_examples]
    found = {
        **_scores(comparison, marks),
        "about": [*data_line(groups), f"report of {date.today().isoformat()}"],
        "full_names": dict(zip(groups, full, strict=True)),
        "first": first,
        "parts": parts,
        "verdicts": {name: other_verdicts(groups[name], run) for name, run in first.items()},
        "traversals": {name: tables for name, tables in traversals.items() if tables},
        "marks": marks,
        "curves": {scale: draw_curves(curves, log=scale == "log") for scale in SCALES},
        "reading": READING,
        "examples": examples.shown,
        "made": [Part(*runs_table(groups)), Part(*options_table(groups))],
        "commands": commands(groups, _compare_words(asked)),
        "left_out": left_out,
        "skipped": skipped,
    }
    return Report(
        out=options.out,
        bytes=_write(options.out, found),
        groups={name: [str(run.folder) for run in runs] for name, runs in full.items()},
        included=_included(found),
        left_out=tuple(left_out),
        skipped=tuple(skipped),
    )


def _scores(comparison: Comparison, marks: Mapping[str, GroupMark]) -> dict[str, Any]:
    return {
        "comparison": comparison,
        "conclusion": conclude(comparison.sections[0]),
        "tables": comparison_tables(comparison, marks),
        "diversity": draw_diversity(comparison.curves.curves, marks),
        "diversity_reading": DIVERSITY_READING,
    }


def _write(out: Path, found: Mapping[str, Any]) -> int:
    """Write the page, and return its size in bytes."""
    fixed = {
        "page_table": PageTable,
        "copy_texts": copy_texts,
        "script": page_script(SCRIPT),
        "version": package_version(),
    }
    page = page_template(TEMPLATE).render({**found, **fixed})
    content = page.encode("utf-8", "replace")  # JSON can hold lone surrogates
    with atomic_write(out) as file:
        file.write(content)
    return len(content)


def _included(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of what the page has."""
    shown = found["examples"].values()
    included = {
        "scores": True,
        "diversity of samples": found["comparison"].has_samples,
        "quality against diversity": found["diversity"],
        **{title: any(title in held for held in found["parts"].values()) for title in PARTS},
        "traversals": found["traversals"],
        "learning curves": found["curves"]["linear"],
        "examples": shown,
        "references": any(example.references for example in shown),
        "images": any(example.thumbnail for example in shown),
        "how it was made": True,
    }
    return tuple(name for name, there in included.items() if there)


def _compare_words(asked: CompareOptions) -> list[str]:
    words = ["multispace", "compare", *map(str, asked.runs), "--split", asked.split]
    words += ["--checkpoint", asked.checkpoint, "--resamples", str(asked.resamples)]
    words += ["--reference", asked.reference]
    words += ["--reference-temperature", str(asked.reference_temperature)]
    for name in asked.names:
        words += ["--name", name]
    return [*words, "--seed", str(asked.seed)]


def _marks(groups: Groups) -> dict[str, GroupMark]:
    """Return how plots show each group.

    Groups of the same runs, of which another checkpoint was evaluated, share a color.
    """
    places = list(dict.fromkeys(map(_folders, groups.values())))
    return {name: group_mark(places.index(_folders(runs))) for name, runs in groups.items()}


def _folders(runs: Sequence[EvaluatedRun]) -> tuple[Path, ...]:
    return tuple(run.folder for run in runs)


def _curves(groups: Groups, marks: Mapping[str, GroupMark]) -> tuple[list[Curve], list[str]]:
    """Return the curve of each run, and a line for each log that is missing."""
    members: dict[Path, list[tuple[str, EvaluatedRun]]] = {}
    for name, runs in groups.items():
        for run in runs:
            members.setdefault(run.folder, []).append((name, run))
    curves, left_out = [], []
    for folder, held in members.items():
        name, run = held[0]
        path = folder / METRICS
        lines = read_log(path)
        steps = frozenset(run.scored.record.step for _, run in held)
        curves.append(Curve(f"{name}, seed {run.seed}", marks[name], lines, steps))
        if not lines:
            left_out.append(f"learning curve: {path} is not there, or empty")
    if len({*marks.values()}) > len(COLOURS):
        left_out.append(f"more than {len(COLOURS)} groups: some share their color")
    return curves, left_out


def _examples(
    options: ReportOptions, first: Mapping[str, EvaluatedRun]
) -> tuple[Examples, list[str], list[str]]:
    """Return the examples, a line for each unreadable image, and a line for all that is missing."""
    evaluations = {name: run.scored.files for name, run in first.items()}
    examples = read_examples(evaluations, options.image_count)
    if not examples.shown:
        none = "examples: there is no captions.json in any of the evaluations"
        return examples, [], [none] if options.image_count != 0 else []
    left_out = [examples.note] if examples.note else []
    skipped: list[str] = []
    if reason := _add_references(options, next(iter(first.values())), examples):
        left_out.append(f"references of the examples: {reason}")
    if options.images is None:
        left_out.append("images of the examples: they need --images")
    else:
        skipped = examples.add_thumbnails(options.images)
    return examples, skipped, left_out


def _add_references(options: ReportOptions, run: EvaluatedRun, examples: Examples) -> str:
    """Add the references from the cache, and return why there are none, if so.

    The cache that the run records may be gone; one that is asked for, or needed for the images,
    must be there. Nothing is fetched from a URL that only the run names.

    :param run: the first one; all runs share their references
    """
    try:
        place = options.cache or recorded_cache(run.folder, read_run_config(run.folder))
        if options.cache is None and not isinstance(place, Path):
            raise PipelineError(
                f"its cache is at {place}", where=run.folder, hint=f"give --cache {place}"
            )
        examples.add_references(place, run.scored.record)
    except Error as error:
        if options.cache is not None or options.images is not None:
            raise
        return str(error)
    return ""
