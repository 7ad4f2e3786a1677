"""What the captions and samples of an evaluated system score on each generated image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from multispace.pipeline.evaluate import Evaluation
from multispace.pipeline.metrics.captions.metric import Floats, ImageId
from multispace.pipeline.metrics.content.attributes import true_attribute_scores
from multispace.pipeline.metrics.samples.diversity_curve import MEANS, SELF_CIDER, CurvePoint

MEASURES = {
    "self_cider": SELF_CIDER,
    "mean": "mean CIDEr",
    "best": "oracle CIDEr",
    "consensus": "consensus CIDEr",
}


@dataclass(frozen=True)
class SingleScores:
    """Scores of the single captions of P images, and the use of the latents.

    :param cider: of each caption, (P,)
    :param colours: colors that each caption names: how many are right, and how many there are,
        (P, 2)
    :param shuffled: nats per caption that shuffling ``z`` or ``c`` costs; empty without latents
    """

    system: str
    name: str
    cider: Floats
    colours: Floats
    shuffled: Mapping[str, float]


@dataclass(frozen=True)
class SampleScores:
    """Scores of the samples of P images.

    :param self_cider: of the samples of an image, (P,)
    :param mean: CIDEr, averaged over the samples of an image, (P,)
    :param best: CIDEr of the best sample of an image, (P,)
    :param consensus: CIDEr of the sample that is most like the others, (P,)
    """

    system: str
    name: str
    self_cider: Floats
    mean: Floats
    best: Floats
    consensus: Floats


def single_scores(
    name: str, evaluation: Evaluation, factors: Mapping[ImageId, Any]
) -> SingleScores:
    """Return the scores of single captions, and what the latents carry.

    :param factors: of each image
    """
    scores = evaluation.scores.per_image
    captions = dict(zip(scores, evaluation.captions, strict=True))
    return SingleScores(
        evaluation.record.system,
        name,
        np.array([each["CIDEr"] for each in scores.values()]),
        np.array([_colours(factors[image], text) for image, text in captions.items()], float),
        shuffled_nats(evaluation),
    )


def curve_points(name: str, evaluation: Evaluation) -> dict[str, CurvePoint]:
    """Return the points of an evaluation's curve by name: with the temperature of what is drawn.

    Words that the beam searched for, from drawn latents, have no temperature.
    """
    points = evaluation.curve.points if evaluation.curve else ()
    return {
        f"{name} at {point.temperature:g}" if point.temperature else name: point for point in points
    }


def sample_scores(name: str, evaluation: Evaluation) -> list[SampleScores]:
    """Return the scores of the samples at each point of the curve."""
    return [
        SampleScores(
            evaluation.record.system,
            place,
            **{short: point.values[:, MEANS.index(measure)] for short, measure in MEASURES.items()},
        )
        for place, point in curve_points(name, evaluation).items()
    ]


def shuffled_nats(evaluation: Evaluation) -> dict[str, float]:
    """Return the nats per caption that shuffling z, and c, between images costs."""
    costs = evaluation.latents.get("ablation", {}).get("shuffled", {})
    return {channel: costs[channel]["nats"] for channel in ("z", "c") if channel in costs}


def _colours(factors: Any, caption: str) -> tuple[int, int]:
    """Return how many of the colors that a caption names are right, and how many there are."""
    tally = true_attribute_scores({0: factors}, {0: caption})["attributes"]["colour"]
    return tally["right"], tally["mentioned"]
