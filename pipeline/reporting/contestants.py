"""Evaluated systems as contestants: what their captions score on each image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from multispace.pipeline.evaluate import Evaluation
from multispace.pipeline.metrics.captions.metric import Floats, ImageId
from multispace.pipeline.metrics.content.attributes import true_attribute_scores
from multispace.pipeline.metrics.samples.oracle import score_samples
from multispace.pipeline.runs.evaluation_folder import SAMPLES
from multispace.pipeline.runs.evaluation_reader import EvaluationFiles


@dataclass(frozen=True)
class SampleScores:
    """Scores of the samples of P images.

    :param self_cider: of the samples of an image, (P,)
    :param mean: CIDEr, averaged over the samples of an image, (P,)
    :param best: CIDEr of the best sample of an image, (P,)
    """

    self_cider: Floats
    mean: Floats
    best: Floats


@dataclass(frozen=True)
class Contestant:
    """A checkpoint of a system, with one way to sample from it.

    :param cider: of the single captions, (P,)
    :param colours: colors that the single captions name: how many are right, and how many there
        are, (P, 2)
    :param shuffled: nats per caption that shuffling ``z`` or ``c`` costs; empty without latents
    """

    system: str
    name: str
    cider: Floats
    colours: Floats
    samples: SampleScores
    shuffled: Mapping[str, float]


def contestant(
    name: str,
    evaluation: Evaluation,
    references: Mapping[ImageId, Sequence[str]],
    factors: Mapping[ImageId, Any],
) -> Contestant:
    """Read what an evaluation of generated images with samples says of each image.

    :param references: of each image, lower-cased words without punctuation
    :param factors: of each image
    """
    diversity = evaluation.diversity["per_image"]
    images = [entry["image_id"] for entry in diversity]
    captions = dict(zip(evaluation.scores.per_image, evaluation.captions, strict=True))
    return Contestant(
        system=evaluation.record.system,
        name=name,
        cider=np.array([evaluation.scores.per_image[image]["CIDEr"] for image in images]),
        colours=np.array([_colours(factors[image], captions[image]) for image in images], float),
        samples=SampleScores(
            self_cider=np.array([entry["self-CIDEr"] for entry in diversity]),
            mean=_sample_ciders(evaluation, [references[image] for image in images]).mean(1),
            best=np.array([entry["best CIDEr"] for entry in diversity]),
        ),
        shuffled={
            channel: cost["nats"]
            for channel, cost in evaluation.latents.get("ablation", {}).get("shuffled", {}).items()
            if channel in ("z", "c")
        },
    )


def _colours(factors: Any, caption: str) -> tuple[int, int]:
    """Return how many of the colors that a caption names are right, and how many there are."""
    tally = true_attribute_scores({0: factors}, {0: caption})["attributes"]["colour"]
    return tally["right"], tally["mentioned"]


def _sample_ciders(evaluation: Evaluation, references: Sequence[Sequence[str]]) -> Floats:
    """Return the CIDEr of each sample, which the evaluation reports as means and bests. (P, N)

    Captions of generated images are tokens joined by single spaces.
    """
    files = EvaluationFiles.open(evaluation.folder, "evaluate the run again")
    samples = [entry["captions"] for entry in files.read(SAMPLES)]
    return score_samples(references, samples, ("cider",))["CIDEr"]
