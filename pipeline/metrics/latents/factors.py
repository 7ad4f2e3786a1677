"""The known factors of a collection's images, and how the latents hold them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from multispace.model.latent.posterior import Posterior
from multispace.pipeline.console.progress import Count, Progress
from multispace.pipeline.metrics.latents import disentanglement as scores

MIN_IMAGES = 50  # fewer give no meaningful scores
MAX_IMAGES = 2000  # that are scored
MIN_COUNT = 2  # images of a value; images with a rarer value are left out


@dataclass(frozen=True)
class Factors:
    """F factors that vary over N images: classes, or ranks where a factor is ordinal."""

    names: tuple[str, ...]
    values: npt.NDArray[np.int64]  # (N, F)
    ordinal: tuple[bool, ...]
    images: npt.NDArray[np.int64]  # (N,), their indices among the images given


def read_factors(entries: Sequence[Any]) -> Factors | None:
    """Read the factors of images: the value of each name in an entry's ``flat``.

    Text is categorical. Numbers are ordinal; more than 20 different numbers are cut into 20 bins
    of equal width. Images without factors, and those with a value that no other image has, are
    left out. Of more than 2,000 images every n-th is taken.

    :returns: None where fewer than 50 images are left, or no factor varies
    """
    found = [
        (i, entry["flat"])
        for i, entry in enumerate(entries)
        if isinstance(entry, Mapping) and isinstance(entry.get("flat"), Mapping)
    ]
    found = found[:: -(-len(found) // MAX_IMAGES) or 1]
    if not found:
        return None
    names = [name for name in found[0][1] if all(name in flat for _, flat in found)]
    classes = {name: _classes([flat[name] for _, flat in found]) for name in names}
    classes = {name: (v, o) for name, (v, o) in classes.items() if len(set(v.tolist())) > 1}
    if not classes:
        return None
    values = np.stack([v for v, _ in classes.values()], axis=1)
    kept = _without_rare(values)
    values = values[kept]
    if len(values) < MIN_IMAGES:
        return None
    varies = (values != values[0]).any(0)
    return Factors(
        tuple(name for name, there in zip(classes, varies, strict=True) if there),
        np.stack([np.unique(v, return_inverse=True)[1] for v in values[:, varies].T], axis=1),
        tuple(o for (_, o), there in zip(classes.values(), varies, strict=True) if there),
        np.array([i for i, _ in found])[kept],
    )


def _without_rare(values: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which rows to keep so that each value is in two rows or more. (N, F) -> (N,)"""
    kept = np.ones(len(values), bool)
    while True:  # leaving one out can make another value rare
        counts = [np.bincount(v[kept], minlength=v.max() + 1)[v] for v in values.T]
        common = kept & (np.min(counts, axis=0) >= MIN_COUNT)
        if (common == kept).all():
            return kept
        kept = common


def _classes(values: Sequence[Any]) -> tuple[npt.NDArray[np.int64], bool]:
    """Return the values as classes, and whether they are ranks."""
    ordinal = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    known, ranks = np.unique(values if ordinal else [str(v) for v in values], return_inverse=True)
    if ordinal and len(known) > scores.BINS:
        edges = np.linspace(known[0], known[-1], scores.BINS + 1)[1:-1]
        ranks = np.unique(np.digitize(values, edges), return_inverse=True)[1]
    return ranks.astype(np.int64), ordinal


def score_factors(posterior: Posterior, factors: Factors, seed: int = 0) -> dict[str, Any]:
    """Return the disentanglement scores of latents for known factors.

    For z (its posterior means): MIG, SAP, DCI and the FactorVAE score. For z and for c (the
    probabilities of all categories): the accuracy of a linear probe, to compare with
    ``majority``.

    :param posterior: of the images that ``factors`` was read from
    """
    values, names = factors.values, factors.names
    report: dict[str, Any] = {
        "pictures": len(values),
        "factors": {
            name: {
                "values": int(column.max()) + 1,
                "kind": "ordinal" if ordinal else "categorical",
                "majority": scores.majority(column),
            }
            for name, column, ordinal in zip(names, values.T, factors.ordinal, strict=True)
        },
    }
    z = 2 + 3 * len(names) if posterior.z is not None else 0  # MIG, FactorVAE; SAP, DCI, probe
    c = len(names) if posterior.c is not None else 0
    with Progress(z + c, "scores", "disentanglement") as progress:
        if posterior.z is not None:
            codes = posterior.z.mean.double().cpu().numpy()[factors.images]
            report["z"], of_factors = _scores_of_z(codes, factors, seed, progress.advance)
            for name, found in zip(names, of_factors, strict=True):
                report["factors"][name] |= found
        if posterior.c is not None:
            parts = [p.exp().double().cpu().numpy() for p in posterior.c.log_probabilities]
            codes = np.concatenate(parts, axis=1)[factors.images]
            for i, name in enumerate(names):
                report["factors"][name]["probe_c"] = scores.probe(codes, values[:, i])
                progress.advance()
    return report


def _scores_of_z(
    codes: scores.Codes, factors: Factors, seed: int, count: Count
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Return the scores of codes over all factors, and those of each factor.

    :param count: called for MIG, FactorVAE, and SAP, DCI and the probe of each factor
    """
    values = factors.values
    gaps = scores.mig(codes, values)
    count(1)
    separated = scores.sap(codes, values, factors.ordinal, seed, count)
    trees = scores.dci(codes, values, seed, count)
    votes = scores.factor_vae(codes, values, seed)
    count(1)
    of_factors = []
    for i, factor in enumerate(values.T):
        probe = scores.probe(codes, factor)
        of_factors.append({"mig": float(gaps[i]), "sap": float(separated[i]), "probe_z": probe})
        count(1)
    return {
        "mig": float(gaps.mean()),
        "sap": float(separated.mean()),
        "disentanglement": trees.disentanglement,
        "completeness": trees.completeness,
        "informativeness": trees.informativeness,
        "importance": trees.importance.tolist(),
        "factor_vae": votes._asdict(),
    }, of_factors


def factor_table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table of :func:`score_factors`, a row per factor."""
    columns = {"majority": "majority", "probe_z": "probe of z", "probe_c": "probe of c",
               "mig": "MIG", "sap": "SAP"}  # fmt: skip
    some: Mapping[str, Any] = next(iter(report["factors"].values()), {})
    shown = [key for key in columns if key in some]
    head = ["factor", "values", *(columns[key] for key in shown)]
    rows = [
        [name, str(facts["values"])]
        + [f"{facts[key]:.3f}" if key in ("mig", "sap") else f"{facts[key]:.1%}" for key in shown]
        for name, facts in report["factors"].items()
    ]
    return head, rows


def factor_lines(report: Mapping[str, Any]) -> list[str]:
    """Return the scores over all factors as a line of text, if there are any."""
    if "z" not in report:
        return []
    z = report["z"]
    votes = z["factor_vae"]
    return [
        f"z, {report['pictures']} images: MIG {z['mig']:.3f}, SAP {z['sap']:.3f}, "
        f"DCI {z['disentanglement']:.3f} / {z['completeness']:.3f} / {z['informativeness']:.3f}, "
        f"FactorVAE {votes['score']:.3f} ({votes['learnt']} and {votes['judged']} votes, "
        f"{votes['codes']} dimensions)"
    ]
