"""Corpus scores of weighted images, for resampling.

CIDEr (with the document frequencies of all references) and ROUGE-L are means over images. BLEU
and METEOR are not: they are functions of statistics summed over images. So a weighted set of
images has the score of its weighted sums, which is not a mean of sentence scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from multispace.pipeline.metrics.captions.metric import Floats
from multispace.pipeline.metrics.captions.registry import REGISTRY

MEANS = tuple(name for m in REGISTRY.values() if not m.statistics for name in m.names)


@dataclass(frozen=True)
class ImageScores:
    """What each of P images adds to the corpus scores.

    :param names: metrics that are means over images
    :param means: (P, len(names))
    :param statistics: by metric, (P, S) as in :class:`MetricScores`
    """

    names: tuple[str, ...]
    means: Floats
    statistics: Mapping[str, Floats]

    @classmethod
    def from_entries(cls, entries: Sequence[Mapping[str, Any]]) -> "ImageScores":
        """Read the entries of ``per_image.json``; scores without statistics are left out.

        :raises ValueError: entries differ in what they hold, or a value is no finite number.
        :raises KeyError, TypeError: a value is missing or of another type.
        """
        first = entries[0]
        names = tuple(name for name in MEANS if name in first)
        means = [[float(entry[name]) for name in names] for entry in entries]
        statistics = {}
        for name, metric in REGISTRY.items():
            if metric.statistics and name in first.get("statistics", {}):
                rows = [entry["statistics"][name] for entry in entries]
                statistics[name] = _finite(rows, metric.statistics)
        return cls(names, _finite(means, len(names)), statistics)

    def totals(self) -> dict[str, float]:
        """Return the scores of the set itself."""
        return {k: float(v) for k, v in self.corpus(np.ones(len(self.means))).items()}

    def corpus(self, weights: Floats) -> dict[str, Floats]:
        """Return each score of the images taken ``weights`` times.

        :param weights: (..., P), not all 0; ones give the score of the set itself
        :returns: scores by pycocoevalcap's name, (...)
        """
        scores: dict[str, Floats] = {}
        for name, rows in self.statistics.items():
            metric = REGISTRY[name]
            values = metric.from_sums(weights @ metric.additive(rows))
            scores.update({name: values[..., k] for k, name in enumerate(metric.names)})
        means = weights @ self.means / weights.sum(-1, keepdims=True)
        return scores | {name: means[..., k] for k, name in enumerate(self.names)}


def _finite(rows: Sequence[Sequence[float]], columns: int) -> Floats:
    matrix = np.array(rows, float).reshape(len(rows), columns)
    if not np.isfinite(matrix).all():
        raise ValueError("a value is not a finite number")
    return matrix
