"""What the groups of a report do: the tables of the evaluation of one run of each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from multispace.pipeline.metrics.content.attributes import attribute_table, percent
from multispace.pipeline.metrics.content.combinations import composition_lines, composition_rows
from multispace.pipeline.metrics.latents.category_report import category_table
from multispace.pipeline.metrics.latents.factors import factor_lines, factor_table
from multispace.pipeline.metrics.latents.latent_report import latent_lines, latent_table
from multispace.pipeline.reporting.bar_plot import BarPlot
from multispace.pipeline.reporting.export_tables import Table
from multispace.pipeline.reporting.latent_plots import latent_plots
from multispace.pipeline.runs.evaluation_folder import ATTRIBUTES, COMPOSITION, FACTORS, LATENTS
from multispace.pipeline.runs.evaluation_reader import EvaluationFiles
from multispace.pipeline.runs.groups import EvaluatedRun

MAX_CATEGORIES = 256  # whose words are shown


@dataclass(frozen=True)
class Part:
    """A table, which may have no rows, the lines below it, a table of categories, and plots."""

    table: Table
    lines: Sequence[str]
    categories: Table | None = None
    plots: Sequence[BarPlot] = ()


def _latents(found: Mapping[str, Any]) -> Part:
    table, lines = Table("", *latent_table(dict(found))), latent_lines(dict(found))
    meaning = found.get("c", {}).get("meaning")  # of earlier versions there is none
    plots = latent_plots(found)
    if meaning is None:
        return Part(table, lines, plots=plots)
    head, rows = category_table(meaning)
    shown = rows[:MAX_CATEGORIES]
    title = f"{len(shown)} of {len(rows)} categories in use"
    return Part(table, lines, Table(title, head, shown), plots)


def _attributes(found: Mapping[str, Any]) -> Part:
    wrong = found["objects"]["captions_with_hallucination"]
    line = f"captions that name an object that is not in the image: {percent(wrong)}"
    return Part(Table("", *attribute_table(found)), [line])


def _composition(found: Mapping[str, Any]) -> Part:
    line = f"held-out pairs: recall over {found['k']} {found['captions']} per image"
    return Part(Table("", *composition_rows(found)), [line, *composition_lines(found)])


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


def read_parts(first: Mapping[str, EvaluatedRun]) -> tuple[dict[str, dict[str, Part]], list[str]]:
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


def other_verdicts(members: Sequence[EvaluatedRun], shown: EvaluatedRun) -> list[str]:
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
