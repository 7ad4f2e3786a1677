"""Diversity of a system's captions and samples, as `evaluate` reports it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np

from multispace.pipeline.console.table import text_table
from multispace.pipeline.metrics.captions.coco_metrics import score_captions, scores_table
from multispace.pipeline.metrics.captions.metric import Floats, ImageId
from multispace.pipeline.metrics.captions.ptb import tokenize
from multispace.pipeline.metrics.samples import diversity, oracle
from multispace.pipeline.metrics.samples.consensus import consensus

# Names in sample_scores.json: BLEU's statistics of each sample against the others; CIDEr-D.
SIBLINGS, CIDER = "siblings", "CIDEr"


@dataclass(frozen=True)
class Diversity:
    """Content of ``diversity.json`` and of ``sample_scores.json``, and the consensus captions.

    :param consensus: the sample of each image that the consensus chose
    :param sample_scores: an entry per image with what each of its samples adds to the scores
    """

    report: dict[str, Any]
    consensus: dict[ImageId, str]
    sample_scores: list[dict[str, Any]]


def diversity_of(
    captions: Mapping[ImageId, str],
    samples: Mapping[ImageId, Sequence[str]],
    references: Mapping[ImageId, Sequence[str]],
    training: Sequence[Sequence[str]],
    metrics: Sequence[str],
) -> Diversity:
    """Describe the single captions of a split and, where there are any, the samples.

    :param captions: of each image
    :param samples: of each image, two or more; or empty
    :param references: of each image
    :param training: the captions of each training image; other captions are novel
    :param metrics: metrics of which the oracle takes the best, and that score the consensus
    :raises JavaError: a Java program fails.
    """
    cited = [references[image_id] for image_id in samples]
    groups = [[*chain.from_iterable(training)], list(captions.values()), *cited, *samples.values()]
    tokens = iter(tokenize([text for group in groups for text in group]))
    trained, own, *rest = ([*islice(tokens, len(group))] for group in groups)
    seen = frozenset(trained)
    report: dict[str, Any] = {"captions": diversity.caption_summary(own, seen)}
    if not samples:
        return Diversity({**report, "notes": list(diversity.NOTES)}, {}, [])

    known, drawn = rest[: len(samples)], rest[len(samples) :]
    siblings = np.array([diversity.sibling_statistics(texts) for texts in drawn])  # (P, N, 6)
    kernels = diversity.kernels(drawn, known)
    summary, each = diversity.sample_summary(drawn, siblings, kernels, seen)
    single = oracle.score_samples(known, drawn, metrics)
    places = consensus([*samples.values()], training)
    chosen = {
        image_id: texts[place]
        for (image_id, texts), place in zip(samples.items(), places, strict=True)
    }
    best = {f"best {name}": scores.max(1) for name, scores in single.items()}
    notes = (*diversity.NOTES, *diversity.SAMPLE_NOTES, *oracle.NOTES, oracle.CONSENSUS_NOTE)
    report |= {
        "samples": {"n": len(drawn[0]), **summary},
        "oracle": {
            "best": {name: float(scores.max(1).mean()) for name, scores in single.items()},
            "mean": {name: float(scores.mean()) for name, scores in single.items()},
            "best_of": _best_of(single),
        },
        "consensus": score_captions(references, chosen, metrics).corpus if metrics else {},
        "notes": list(notes),
        "per_image": _per_image(list(samples), each, best),
    }
    return Diversity(report, chosen, _sample_scores(list(samples), siblings, single.get("CIDEr")))


def _best_of(single: Mapping[str, Floats]) -> dict[str, dict[str, float]]:
    """Return the mean score of the best of n samples, by n and by the name of the score."""
    found: dict[str, dict[str, float]] = {}
    for name, scores in single.items():
        for n, best in oracle.best_of(scores).items():
            found.setdefault(str(n), {})[name] = float(best.mean())
    return found


def _sample_scores(
    images: Sequence[ImageId], siblings: Floats, cider: Floats | None
) -> list[dict[str, Any]]:
    """Return an entry per image.

    :param siblings: (P, N, 6)
    :param cider: (P, N), if it was computed
    """
    entries: list[dict[str, Any]] = [
        {"image_id": image_id, SIBLINGS: rows}
        for image_id, rows in zip(images, siblings.astype(int).tolist(), strict=True)
    ]
    if cider is not None:
        for entry, scores in zip(entries, cider.tolist(), strict=True):
            entry[CIDER] = scores
    return entries


def _per_image(
    images: Sequence[ImageId], each: Floats, best: Mapping[str, Floats]
) -> list[dict[str, Any]]:
    """Return an entry per image with its diversity (P, 6) and its best scores (P,)."""
    names = (*diversity.COLUMNS, *best)
    table = np.column_stack([each, *best.values()])
    return [
        {"image_id": image_id, **dict(zip(names, row, strict=True))}
        for image_id, row in zip(images, table.tolist(), strict=True)
    ]


def diversity_text(report: Mapping[str, Any]) -> str:
    """Return ``diversity.json`` as tables, the oracle's choices apart from the system's own."""
    single = report["captions"]
    novel, words = single["novel_share"], single["words"]
    lines = [f"{novel:.1%} of the captions are novel; number of different words: {words}"]
    if "samples" in report:
        samples = dict(report["samples"])
        count = samples.pop("n")
        head = [f"{count} samples per image"]
        head += [diversity.SHOWN.get(str(name), str(name)) for name in samples]
        cells = [f"{v:.3f}" if isinstance(v, float) else v for v in samples.values()]
        lines.append(text_table(head, [["mean", *cells]]))
        if report["consensus"]:
            best = report["oracle"]
            chosen = {f"best of {n} (oracle)": scores for n, scores in best["best_of"].items()}
            lines.append(scores_table({**chosen, "mean": best["mean"]}))
            lines.append(scores_table({"consensus": report["consensus"]}))
    return "\n".join(lines)
