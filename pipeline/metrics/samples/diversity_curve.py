"""Quality of the samples of a split against their diversity, over temperatures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np

from multispace.pipeline.console.progress import Progress
from multispace.pipeline.console.table import text_table
from multispace.pipeline.metrics.captions.metric import Floats, ImageId
from multispace.pipeline.metrics.captions.ptb import tokenize
from multispace.pipeline.metrics.captions.tfidf import TfIdf
from multispace.pipeline.metrics.samples.consensus import consensus
from multispace.pipeline.metrics.samples.diversity import (
    CORPUS_MBLEU,
    corpus_mbleu,
    self_cider,
    sibling_statistics,
)

QUALITIES = ("oracle CIDEr", "mean CIDEr", "consensus CIDEr")
SELF_CIDER = "self-CIDEr"
DIVERSITIES = (SELF_CIDER, CORPUS_MBLEU)
MEANS = (SELF_CIDER, *QUALITIES)  # measures that are means over images
DIGITS = 8  # of the values of images in a file
NOTE = (
    "curve: CIDEr-D of the best of an image's samples (oracle), of all its samples (mean), and of "
    "the sample that the consensus chooses without references"
)


@dataclass(frozen=True)
class CurvePoint:
    """The samples of P images at one temperature.

    :param temperature: of the words, or of the latents; words at 0: the beam searched for them
    :param corpus_mbleu: mBLEU-4 of the corpus
    :param values: MEANS of each image, (P, 4)
    """

    temperature: float
    corpus_mbleu: float
    values: Floats

    def to_json(self) -> dict[str, float]:
        """Return the temperature and each measure of the split."""
        means = dict(zip(MEANS, self.values.mean(0).tolist(), strict=True))
        return {"temperature": self.temperature, CORPUS_MBLEU: self.corpus_mbleu, **means}


@dataclass(frozen=True)
class DiversityCurve:
    """The points of one evaluation, in the order of their temperatures.

    :param count: samples per image
    :param images: ids of the images, in the order of the values of each point
    """

    count: int
    images: tuple[ImageId, ...]
    points: tuple[CurvePoint, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the curve without the values of images."""
        return {"n": self.count, "points": [point.to_json() for point in self.points]}

    def per_image(self) -> list[dict[str, Any]]:
        """Return an entry per image with MEANS at each point."""
        values = np.stack([point.values for point in self.points], axis=1).round(DIGITS)
        return [
            {"image_id": image_id, "values": rows}
            for image_id, rows in zip(self.images, values.tolist(), strict=True)
        ]

    def render(self) -> str:
        """Return the curve as a table."""
        points = [point.to_json() for point in self.points]
        names = (*DIVERSITIES, *QUALITIES)
        return text_table(
            [f"curve of {self.count} samples", *names],
            [
                [f"temperature {point['temperature']:g}", *(f"{point[n]:.3f}" for n in names)]
                for point in points
            ],
        )


def diversity_curve(
    draws: Mapping[float, Mapping[ImageId, Sequence[str]]],
    references: Mapping[ImageId, Sequence[str]],
    training: Sequence[Sequence[str]],
) -> DiversityCurve:
    """Measure the samples of the same images at several temperatures.

    :param draws: by temperature, the samples of each image: as many everywhere, two or more
    :param references: of each image
    :param training: the captions of each training image, for the consensus
    :raises JavaError: the tokenizer fails.
    """
    temperatures = sorted(draws)
    images = list(draws[temperatures[0]])
    samples = [[draws[temperature][image] for image in images] for temperature in temperatures]
    known, *drawn = _tokenized([[references[image] for image in images], *samples])
    # The training captions are read once, for the consensus of all points.
    places = iter(consensus([*chain.from_iterable(samples)], training))
    weights = TfIdf(known)
    points = []
    with Progress(len(drawn), "temperatures", "scoring the curve") as progress:
        for temperature, texts in zip(temperatures, drawn, strict=True):
            chosen = [*islice(places, len(texts))]
            points.append(_point(temperature, texts, known, chosen, weights))
            progress.advance()
    return DiversityCurve(len(drawn[0][0]), tuple(images), tuple(points))


def _tokenized(groups: Sequence[Sequence[Sequence[str]]]) -> list[list[list[str]]]:
    """Return the captions of each image, in each group of images, as the metrics' tokens."""
    distinct = list(dict.fromkeys(text for group in groups for texts in group for text in texts))
    tokens = dict(zip(distinct, tokenize(distinct), strict=True))
    return [[[tokens[text] for text in texts] for texts in group] for group in groups]


def _point(
    temperature: float,
    samples: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    chosen: Sequence[int],
    weights: TfIdf,
) -> CurvePoint:
    """Measure the samples at one temperature.

    :param samples: tokens of the N samples of each of P images
    :param references: tokens of the references of each image
    :param chosen: the sample of each image that the consensus chooses
    :param weights: with the document frequencies of the references
    """
    rows, siblings = [], []
    for texts, known, place in zip(samples, references, chosen, strict=True):
        cider = weights.cider_d(texts, known)
        diversity = self_cider(weights.kernel(texts))
        rows.append([diversity, cider.max(), cider.mean(), cider[place]])
        siblings.append(sibling_statistics(texts))
    return CurvePoint(temperature, corpus_mbleu(np.array(siblings)), np.array(rows))
