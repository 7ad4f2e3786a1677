"""CIDEr-D (Vedantam 2015) as pycocoevalcap computes it."""

from collections.abc import Sequence

import numpy as np
from pycocoevalcap.cider.cider import Cider

from multispace.pipeline.metrics.captions.metric import (
    TIME_LIMIT,
    Floats,
    Metric,
    MetricScores,
    Tokens,
)
from multispace.pipeline.metrics.captions.tfidf import TfIdf


class CiderMetric(Metric):
    """CIDEr-D, with the document frequencies of the references that it is given."""

    option = "cider"
    names = ("CIDEr",)

    def score(self, references: Tokens, captions: Tokens) -> MetricScores:
        """Score one caption per image; see :meth:`Metric.score`."""
        corpus, each = Cider().compute_score(references, captions)
        return MetricScores({"CIDEr": float(corpus)}, {"CIDEr": each.tolist()})

    def score_samples(
        self,
        references: Sequence[Sequence[str]],
        samples: Sequence[Sequence[str]],
        time_limit: float = TIME_LIMIT,
    ) -> dict[str, Floats]:
        """Score N captions per image, computing the document frequencies once."""
        weights = TfIdf(references)
        pairs = zip(samples, references, strict=True)
        return {"CIDEr": np.array([weights.cider_d(captions, known) for captions, known in pairs])}

    def notes(self, images: int) -> tuple[str, ...]:
        """Warn where there is a single image."""
        if images > 1:
            return ()
        return ("CIDEr is 0 for a single image, since its weights compare images",)


METRIC = CiderMetric()
