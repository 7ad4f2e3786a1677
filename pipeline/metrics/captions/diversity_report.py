"""What `evaluate` says of the diversity of a system's captions and of its samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from multispace.pipeline.metrics.captions import diversity, oracle
from multispace.pipeline.metrics.captions.coco_metrics import ImageId, score_captions, tokenize


@dataclass(frozen=True)
class Diversity:
    """The content of ``diversity.json``, and the samples that the consensus chose."""

    report: dict[str, Any]
    consensus: dict[ImageId, str]


def diversity_of(
    captions: Mapping[ImageId, str],
    samples: Mapping[ImageId, Sequence[str]],
    references: Mapping[ImageId, Sequence[str]],
    training: Sequence[str],
    metrics: Sequence[str],
) -> Diversity:
    """Describe the single captions of a split and, where there are, the samples of each image.

    :param captions: of each image
    :param samples: of each image, two or more; or empty
    :param references: of each image
    :param training: what is not novel
    :param metrics: by which the oracle chooses, and the consensus is scored

    Raises JavaError.
    """
    cited = [references[image_id] for image_id in samples]
    groups = [training, list(captions.values()), *cited, *samples.values()]
    tokens = iter(tokenize([text for group in groups for text in group]))
    seen, own, *rest = ([*islice(tokens, len(group))] for group in groups)
    trained = frozenset(seen)
    report: dict[str, Any] = {"captions": diversity.caption_summary(own, trained)}
    if not samples:
        return Diversity({**report, "notes": list(diversity.NOTES)}, {})

    known, drawn = rest[: len(samples)], rest[len(samples) :]
    kernels = diversity.kernels(drawn, known)
    summary, each = diversity.sample_summary(drawn, kernels, trained)
    single = oracle.score_samples(known, drawn, metrics)
    chosen = {
        image_id: texts[diversity.consensus(kernel)]
        for (image_id, texts), kernel in zip(samples.items(), kernels, strict=True)
    }
    report["samples"] = {"n": len(drawn[0]), **summary}
    report["oracle"] = {
        "best": {name: float(scores.max(1).mean()) for name, scores in single.items()},
        "mean": {name: float(scores.mean()) for name, scores in single.items()},
    }
    report["consensus"] = score_captions(references, chosen, metrics).corpus if metrics else {}
    notes = (*diversity.NOTES, *diversity.SAMPLE_NOTES, *oracle.NOTES, oracle.CONSENSUS_NOTE)
    report["notes"] = list(notes)
    best = {f"best {name}": scores.max(1) for name, scores in single.items()}
    table = np.column_stack([each, *best.values()])
    names = (*diversity.NAMES, *best)
    report["per_image"] = [
        {"image_id": image_id, **dict(zip(names, row, strict=True))}
        for image_id, row in zip(samples, table.tolist(), strict=True)
    ]
    return Diversity(report, chosen)
