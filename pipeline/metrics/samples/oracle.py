"""Scores of N captions per image, one by one, and the best that an oracle would choose."""

from collections.abc import Sequence

from multispace.pipeline.console.progress import Progress
from multispace.pipeline.metrics.captions.metric import TIME_LIMIT, Floats
from multispace.pipeline.metrics.captions.registry import REGISTRY

BEST_OF = (1, 5, 10, 20, 50, 100)  # samples from which the oracle chooses

NOTES = (
    "best: for each metric, the sample of an image that scores best against its references, "
    "averaged over images; no system can choose so. mean: averaged over the samples of an image, "
    "then over images",
    "best of n: the best of the first n samples of each image",
    "BLEU of best and mean is that of single captions, and does not compare with that of a set",
)
CONSENSUS_NOTE = (
    "consensus: the sample with the highest mean CIDEr-D to its image's other samples (Devlin "
    "2015, without captions of neighbours), scored as captions of the set; document frequencies "
    "are those of the training captions, and no reference is used"
)


def score_samples(
    references: Sequence[Sequence[str]],
    samples: Sequence[Sequence[str]],
    metrics: Sequence[str],
    time_limit: float = TIME_LIMIT,
) -> dict[str, Floats]:
    """Return the score of each sample, by pycocoevalcap's names. (P, N)

    :param references: of each of P images, one or more, as tokens
    :param samples: N of each image, as tokens
    :param metrics: names from METRICS; METEOR sends every sample to Java
    :param time_limit: seconds for METEOR
    :raises JavaError: METEOR fails.
    """
    scores: dict[str, Floats] = {}
    asked = [metric for name, metric in REGISTRY.items() if name in metrics]
    with Progress(len(asked), "metrics", "scores of samples") as progress:
        for metric in asked:
            scores |= metric.score_samples(references, samples, time_limit)
            progress.advance()
    return scores


def best_of(scores: Floats) -> dict[int, Floats]:
    """Return the best score among the first n samples of each image, (P,) for each n.

    The values of n are those of BEST_OF that are not above N, and N.

    :param scores: of each sample, (P, N)
    """
    count = scores.shape[1]
    sizes = sorted({count, *(n for n in BEST_OF if n < count)})
    return {n: scores[:, :n].max(1) for n in sizes}
