"""Write one self-contained HTML page about evaluated runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from multispace.data.files import atomic_write
from multispace.errors import Error, PipelineError
from multispace.exit_status import SKIPPED
from multispace.pipeline.command_options.report_options import ReportOptions
from multispace.pipeline.compare import CompareOptions, compare_groups, read_groups
from multispace.pipeline.metrics.content.attributes import attribute_table, percent
from multispace.pipeline.metrics.content.combinations import composition_rows
from multispace.pipeline.metrics.latents.category_report import category_table
from multispace.pipeline.metrics.latents.factors import factor_lines, factor_table
from multispace.pipeline.metrics.latents.latent_report import latent_lines, latent_table
from multispace.pipeline.reporting.conclusion import conclude
from multispace.pipeline.reporting.curves import COLOURS, READING, Curve, draw_curves
from multispace.pipeline.reporting.diversity_plot import READING as DIVERSITY_READING
from multispace.pipeline.reporting.diversity_plot import draw_diversity
from multispace.pipeline.reporting.examples import Examples, read_examples
from multispace.pipeline.reporting.export_tables import Table
from multispace.pipeline.reporting.page_tables import PageTable, comparison_tables, copy_texts
from multispace.pipeline.reporting.page_template import page_template
from multispace.pipeline.reporting.reproduction import (
    Groups,
    commands,
    data_line,
    options_table,
    runs_table,
)
from multispace.pipeline.runs.evaluation_folder import ATTRIBUTES, COMPOSITION, FACTORS, LATENTS
from multispace.pipeline.runs.evaluation_reader import EvaluationFiles
from multispace.pipeline.runs.groups import EvaluatedRun
from multispace.pipeline.runs.run_cache import recorded_cache
from multispace.pipeline.runs.run_folder import read_run_config
from multispace.pipeline.training.metrics_log import METRICS, read_log
from multispace.version import package_version

MAX_CATEGORIES = 256  # whose words are shown
TEMPLATE = "report.html.j2"
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


@dataclass(frozen=True)
class Part:
    """A table, which may have no rows, the lines below it, and a table of categories."""

    table: Table
    lines: Sequence[str]
    categories: Table | None = None


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
    groups = read_groups(asked)
    comparison = compare_groups(groups, asked)
    first = {name: min(members, key=lambda run: run.seed) for name, members in groups.items()}
    parts, without_parts = _parts(first)
    colours, svg, without_curves = _curves(groups)
    examples, skipped, without_examples = _examples(options, first)
    sampled = comparison.has_samples
    left_out = [
        *([] if sampled else [NO_SAMPLES]), *without_parts, *without_curves, *without_examples
    ]  # fmt: skip
    content = {
        "comparison": comparison,
        "conclusion": conclude(comparison.sections[0]),
        "about": [*data_line(groups), f"report of {date.today().isoformat()}"],
        "tables": comparison_tables(comparison, colours),
        "page_table": PageTable,
        "copy_texts": copy_texts,
        "first": first,
        "parts": parts,
        "diversity": draw_diversity(comparison.curves.curves, colours),
        "diversity_reading": DIVERSITY_READING,
        "verdicts": {name: _verdicts(groups[name], run) for name, run in first.items()},
        "colours": colours,
        "curves": svg,
        "reading": READING,
        "examples": examples.shown,
        "made": [Part(*runs_table(groups)), Part(*options_table(groups))],
        "commands": commands(groups, _compare_words(asked)),
        "left_out": left_out,
        "skipped": skipped,
        "version": package_version(),
    }
    text = page_template(TEMPLATE).render(content)
    page = text.encode("utf-8", "replace")  # JSON can hold lone surrogates
    with atomic_write(options.out) as file:
        file.write(page)
    return Report(
        out=options.out,
        bytes=len(page),
        groups={name: [str(run.folder) for run in runs] for name, runs in groups.items()},
        included=_included(sampled, bool(comparison.curves.curves), parts, bool(svg), examples),
        left_out=tuple(left_out),
        skipped=tuple(skipped),
    )


def _included(
    sampled: bool,
    compared: bool,
    parts: Mapping[str, Mapping[str, Part]],
    curves: bool,
    examples: Examples,
) -> tuple[str, ...]:
    shown = examples.shown.values()
    included = {
        "scores": True,
        "diversity of samples": sampled,
        "quality against diversity": compared,
        **{title: any(title in held for held in parts.values()) for title in PARTS},
        "learning curves": curves,
        "examples": bool(shown),
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


def _latents(found: Mapping[str, Any]) -> Part:
    table, lines = Table("", *latent_table(dict(found))), latent_lines(dict(found))
    meaning = found.get("c", {}).get("meaning")  # of earlier versions there is none
    if meaning is None:
        return Part(table, lines)
    head, rows = category_table(meaning)
    shown = rows[:MAX_CATEGORIES]
    title = f"{len(shown)} of {len(rows)} categories in use"
    return Part(table, lines, Table(title, head, shown))


def _attributes(found: Mapping[str, Any]) -> Part:
    wrong = found["objects"]["captions_with_hallucination"]
    line = f"captions that name an object that is not in the image: {percent(wrong)}"
    return Part(Table("", *attribute_table(found)), [line])


def _composition(found: Mapping[str, Any]) -> Part:
    line = f"held-out pairs: recall over {found['k']} {found['captions']} per image"
    return Part(Table("", *composition_rows(found)), [line])


def _factors(found: Mapping[str, Any]) -> Part:
    return Part(Table("", *factor_table(found)), factor_lines(found))


PARTS: dict[str, tuple[str, Callable[[Mapping[str, Any]], Part], str]] = {
    "latent space": (LATENTS, _latents, ""),
    "objects and attributes": (ATTRIBUTES, _attributes, ""),
    "unseen combinations": (
        COMPOSITION,
        _composition,
        "; evaluate a split with held-out pairs",
    ),
    "disentanglement": (
        FACTORS,
        _factors,
        "; evaluate a split with known factors",
    ),
}


def _parts(first: Mapping[str, EvaluatedRun]) -> tuple[dict[str, dict[str, Part]], list[str]]:
    """Return the PARTS that each group has, and a line for each part that is missing."""
    parts: dict[str, dict[str, Part]] = {name: {} for name in first}
    left_out = []
    for title, (file, part, why) in PARTS.items():
        for name, run in first.items():
            if run.scored.files.has(file):
                parts[name][title] = _read(run.scored.files, file, part)
        missing = [name for name, held in parts.items() if title not in held]
        if missing:
            names = "any group" if len(missing) == len(parts) else "; ".join(missing)
            left_out.append(f"{title}: no {file} of {names}{why}")
    return parts, left_out


def _verdicts(members: Sequence[EvaluatedRun], shown: EvaluatedRun) -> list[str]:
    """Return the verdicts on the latents of the seeds whose table is not shown."""
    others = {run.seed: run.scored.files for run in members if run is not shown}
    found = {n: _read(run, LATENTS, _latents) for n, run in others.items() if run.has(LATENTS)}
    return [f"seed {seed}: {part.lines[-1]}" for seed, part in found.items()]


def _read(files: EvaluationFiles, name: str, part: Callable[[Mapping[str, Any]], Part]) -> Part:
    found = files.read(name)
    try:
        return part(found)
    except (ValueError, LookupError, TypeError) as error:
        raise files.damaged(name, f"not as `evaluate` writes it ({error!r})") from error


def _curves(groups: Groups) -> tuple[dict[str, str], str, list[str]]:
    """Return the colour of each group, the curves as SVG, and a line for each log that is missing.

    Groups of the same runs, of which another checkpoint was evaluated, share a colour.
    """
    folders = {name: tuple(run.folder for run in members) for name, members in groups.items()}
    places = {runs: place for place, runs in enumerate(dict.fromkeys(folders.values()))}
    colours = {name: COLOURS[places[runs] % len(COLOURS)] for name, runs in folders.items()}
    logs = {
        folder / METRICS: COLOURS[place % len(COLOURS)]
        for runs, place in places.items()
        for folder in runs
    }
    curves = [Curve(colour, read_log(path)) for path, colour in logs.items()]
    left_out = [
        f"learning curve: {path} is not there, or empty"
        for path, curve in zip(logs, curves, strict=True)
        if not curve.lines
    ]
    if len(places) > len(COLOURS):
        left_out.append(f"more than {len(COLOURS)} groups: some share their colour")
    return colours, draw_curves(curves), left_out


def _examples(
    options: ReportOptions, first: Mapping[str, EvaluatedRun]
) -> tuple[Examples, list[str], list[str]]:
    """Return the examples, a line for each unreadable image, and a line for all that is missing."""
    evaluations = {name: run.scored.files for name, run in first.items()}
    examples = read_examples(evaluations, options.image_count)
    if not examples.shown:
        none = "examples: there is no captions.json in any of the evaluations"
        return examples, [], [none] if options.image_count != 0 else []
    left_out: list[str] = []
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
