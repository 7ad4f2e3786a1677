"""Quality of samples at equal diversity: curves over temperatures, read at the same self-CIDEr."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from multispace.pipeline.comparison.sections import (
    Estimate,
    Groups,
    Section,
    bootstrapped,
    mean_over_images,
    section_of,
)
from multispace.pipeline.metrics.captions.metric import Floats
from multispace.pipeline.metrics.interpolation import interpolate
from multispace.pipeline.metrics.samples.diversity_curve import (
    DIVERSITIES,
    MEANS,
    QUALITIES,
    DiversityCurve,
)
from multispace.pipeline.reporting.export_tables import Table
from multispace.pipeline.runs.groups import EvaluatedRun

NOTES = (
    "equal diversity: the curve of a group is the mean over its seeds, linear between neighboring "
    "points, and is not extrapolated; each resample has its own self-CIDEr of the reference",
    "a group beats the reference if the intervals of all three differences are above 0; it does "
    "not if one of them has no part above 0; otherwise it is undecided",
)
MAX_OUTSIDE = 0.01  # fraction of the resamples in which a curve may miss the reference


@dataclass(frozen=True)
class CurveComparison:
    """The curves of groups, and their qualities at equal diversity.

    :param count: samples per image
    :param curves: temperature and measures of each point, means over the seeds of a group
    :param section: QUALITIES at the self-CIDEr of the reference; None if it has no such point
    :param verdicts: a sentence per group that is compared with the reference
    """

    count: int = 0
    curves: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    section: Section | None = None
    verdicts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without the notes."""
        return {
            "n": self.count,
            "points": self.curves,
            "equal_diversity": self.section and self.section.to_json(),
            "verdicts": list(self.verdicts),
        }

    def tables(self) -> list[Table]:
        """Return the points of all curves, and the qualities at equal diversity."""
        if not self.curves:
            return []
        names = (*DIVERSITIES, *QUALITIES)
        rows = [
            [f"{group}, temperature {point['temperature']:g}", *(f"{point[n]:.3f}" for n in names)]
            for group, points in self.curves.items()
            for point in points
        ]
        points = Table(f"curves of {self.count} samples per image", ("", *names), rows)
        return [points, *(self.section.tables() if self.section else [])]


@dataclass(frozen=True)
class _Reference:
    """The point whose self-CIDEr is that of the comparison."""

    group: str
    temperature: float
    system: str

    def __str__(self) -> str:
        return f"{self.group} sampled at temperature {self.temperature:g}"


def compare_curves(
    groups: Groups, reference: str, temperature: float, resamples: int, seed: int
) -> CurveComparison:
    """Compare the curves of groups at the self-CIDEr of one point.

    :param reference: a group, or the system of one group
    :param temperature: of a point of the reference
    :param resamples: of images and seeds
    :param seed: of the resamples
    """
    drawn = {name: runs for name, runs in groups.items() if all(map(_has_curve, runs))}
    counts = sorted({_curve(run).count for runs in drawn.values() for run in runs})
    if not drawn:
        return CurveComparison()
    if len(counts) > 1:
        return CurveComparison(
            notes=(f"samples per image of the curves are {counts}: the curves do not compare",)
        )
    temperatures = {name: _temperatures(runs) for name, runs in drawn.items()}
    held = {name: runs for name, runs in drawn.items() if temperatures[name]}
    notes = [
        *(f"{name}: no diversity curve; evaluate all its runs with --curve"
          for name in groups if name not in drawn),
        *(f"{name}: the curves of its runs have no temperature in common"
          for name in drawn if name not in held),
    ]  # fmt: skip
    comparison = partial(
        CurveComparison,
        counts[0],
        {name: _mean_points(runs, temperatures[name]) for name, runs in held.items()},
    )
    point = _find_reference(held, temperatures, reference, temperature)
    if isinstance(point, str):
        return comparison(notes=(*notes, f"no comparison at equal diversity: {point}"))
    section, left_out = _at_equal_diversity(held, temperatures, point, resamples, seed)
    return comparison(
        section=section,
        verdicts=tuple(_verdicts(section, point)),
        notes=(*notes, *left_out, *NOTES),
    )


def _has_curve(run: EvaluatedRun) -> bool:
    return run.scored.curve is not None


def _curve(run: EvaluatedRun) -> DiversityCurve:
    assert run.scored.curve is not None  # only runs with curves are asked
    return run.scored.curve


def _temperatures(runs: Sequence[EvaluatedRun]) -> tuple[float, ...]:
    """Return the temperatures that the curves of all runs have."""
    found = [{point.temperature for point in _curve(run).points} for run in runs]
    return tuple(sorted(set.intersection(*found)))


def _mean_points(
    runs: Sequence[EvaluatedRun], temperatures: Sequence[float]
) -> list[dict[str, float]]:
    """Return the measures at each temperature, averaged over runs."""
    found = [{point.temperature: point.to_json() for point in _curve(run).points} for run in runs]
    return [
        {name: float(np.mean([points[t][name] for points in found])) for name in found[0][t]}
        for t in temperatures
    ]


def _find_reference(
    groups: Groups,
    temperatures: Mapping[str, Sequence[float]],
    reference: str,
    temperature: float,
) -> _Reference | str:
    """Return the point of reference, or the reason why there is none."""
    named = [name for name in groups if name == reference]
    named = named or [name for name, runs in groups.items() if runs[0].system == reference]
    if len(named) != 1:
        many = "several groups have" if named else "no group with a curve has"
        names = "; ".join(named or groups)
        return f"{many} the name or system {reference!r}; choose one with --reference: {names}"
    (name,) = named
    if temperature not in temperatures[name]:
        known = ", ".join(f"{t:g}" for t in temperatures[name])
        return (
            f"{name} has no point at temperature {temperature:g}; choose one with "
            f"--reference-temperature: {known}"
        )
    return _Reference(name, temperature, groups[name][0].system)


def _at_equal_diversity(
    groups: Groups,
    temperatures: Mapping[str, Sequence[float]],
    reference: _Reference,
    resamples: int,
    seed: int,
) -> tuple[Section, list[str]]:
    """Return QUALITIES of the groups at the self-CIDEr of the reference.

    :returns: the section, and a line for each group whose curve does not reach the reference
    """
    # All groups are resampled together, so they have as many columns: NaN beyond their own points.
    most = max(map(len, temperatures.values()))
    scorers = {
        name: tuple(mean_over_images(_values(run, temperatures[name], most)) for run in runs)
        for name, runs in groups.items()
    }
    runs, draws = bootstrapped(groups, scorers, resamples, seed)
    points = {name: draws[:, place] for place, name in enumerate(groups)}
    means = {name: values.mean(0, keepdims=True) for name, values in runs.items()}
    column = temperatures[reference.group].index(reference.temperature) * len(MEANS)
    at = means[reference.group][:, column]
    at_draws = points[reference.group][:, column]

    kept: dict[str, tuple[Floats, Floats, Floats]] = {}  # of runs, their mean, and resamples
    left_out = []
    for name in sorted(groups, key=lambda name: name != reference.group):  # the reference first
        count = len(temperatures[name])
        mean = _read_off(means[name], count, at)
        drawn = _read_off(points[name], count, at_draws)
        outside = float(np.isnan(drawn[:, 0]).mean())
        if np.isnan(mean).any():
            left_out.append(_out_of_reach(name, means[name], count, at[0]))
        elif outside > MAX_OUTSIDE:
            left_out.append(
                f"{name}: its curve ends too close to self-CIDEr {at[0]:.3f}: it does not reach "
                f"it in {outside:.1%} of the resamples; evaluate it at more temperatures"
            )
        else:
            own = _read_off(runs[name], count, np.repeat(at, len(runs[name])))
            kept[name] = own, mean[0], drawn
    title = f"at the self-CIDEr of {reference} ({at[0]:.3f})"
    section = section_of(
        title,
        QUALITIES,
        {name: own for name, (own, _, _) in kept.items()},
        {name: mean for name, (_, mean, _) in kept.items()},
        np.stack([drawn for _, _, drawn in kept.values()], axis=1),
    )
    return section, left_out


def _values(run: EvaluatedRun, temperatures: Sequence[float], most: int) -> Floats:
    """Return MEANS of each image at each temperature, NaN up to ``most`` temperatures. (P, ...)"""
    points = {point.temperature: point.values for point in _curve(run).points}
    found = [points[temperature] for temperature in temperatures]
    missing = [np.full_like(found[0], np.nan)] * (most - len(found))
    return np.concatenate([*found, *missing], axis=1)


def _read_off(points: Floats, count: int, at: Floats) -> Floats:
    """Return QUALITIES of B curves, each at its own self-CIDEr. (B, 3)

    :param points: MEANS of ``count`` points, one after the other, (B, >= 4 count)
    :param at: (B,)
    """
    curves = points[:, : count * len(MEANS)].reshape(len(points), count, len(MEANS))
    return interpolate(curves[:, :, 0], curves[:, :, 1:], at)


def _out_of_reach(name: str, means: Floats, count: int, at: float) -> str:
    reached = means[0, : count * len(MEANS) : len(MEANS)]
    return (
        f"{name}: its curve is between self-CIDEr {reached.min():.3f} and {reached.max():.3f} and "
        f"does not reach {at:.3f}; evaluate it at other temperatures"
    )


def _verdicts(section: Section, reference: _Reference) -> Iterator[str]:
    """Yield a sentence for each group that is compared with the reference."""
    rival = "temperature sampling" if reference.system == "base" else reference.group
    for first, second, cells in section.differences:
        if first == reference.group:
            ranges = ", ".join(f"{name} {cell.range()}" for name, cell in cells.items())
            verdict = _verdict(second, rival, [*cells.values()])
            yield f"{verdict}: {section.title}, {ranges}"


def _verdict(group: str, rival: str, differences: Sequence[Estimate]) -> str:
    if all(difference.low > 0 for difference in differences):
        return f"{group} beats {rival}"
    if any(difference.high <= 0 for difference in differences):
        return f"{group} does not beat {rival}"
    return f"undecided whether {group} beats {rival}"
