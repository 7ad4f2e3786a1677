"""Base class of the caption metrics.

To add a metric, write a subclass in a file of its own, NAME.py, with ``METRIC``, an instance of
it, and add NAME to ``metric_names.py``.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ImageId = int | str
Tokens = Mapping[ImageId, Sequence[str]]  # captions of each image, as tokens joined by spaces

TIME_LIMIT = 600.0  # seconds for each Java program


@dataclass(frozen=True)
class MetricScores:
    """Scores of one metric on a set of P captions, one per image.

    :param corpus: score of the whole set, by name
    :param per_image: score of each image, by name; in the order of the captions
    :param statistics: for each image, the numbers of :attr:`Metric.statistics`; empty for a
        metric whose corpus score is the mean over images
    """

    corpus: dict[str, float]
    per_image: dict[str, Sequence[float]]
    statistics: Sequence[list[float]] = ()


Scorer = Callable[[Tokens, Tokens], MetricScores]


class Metric:
    """A caption metric.

    A metric whose corpus score is the mean over images only defines ``option``, ``names`` and
    :meth:`score`. The other methods have defaults that can be overridden for speed, or for a
    corpus score that is a function of sums over images, as BLEU is.
    """

    option: str  # name on the command line: --metrics bleu
    names: tuple[str, ...]  # names of its scores in scores.json
    statistics: int = 0  # numbers kept per image; 0: the corpus score is the mean over images

    def score(self, references: Tokens, captions: Tokens) -> MetricScores:
        """Score one caption per image.

        :param references: reference captions of each image, one or more
        :param captions: a list of one caption for each of the same images, in the same order
        """
        raise NotImplementedError

    def start(self, time_limit: float) -> AbstractContextManager[Scorer]:
        """Return a context that gives :meth:`score`; override it to start a program early.

        :param time_limit: seconds for the program
        """
        return nullcontext(self.score)

    def score_samples(
        self,
        references: Sequence[Sequence[str]],
        samples: Sequence[Sequence[str]],
        time_limit: float = TIME_LIMIT,
    ) -> dict[str, Floats]:
        """Score each of N captions of each of P images. Returns (P, N) by name.

        :param references: tokens of the references of each image
        :param samples: tokens of the N captions of each image
        """
        known: Tokens = dict(enumerate(references))
        with self.start(time_limit) as score:
            draws = [
                score(known, {row: [text] for row, text in enumerate(draw)}).per_image
                for draw in zip(*samples, strict=True)
            ]
        return {name: np.array([draw[name] for draw in draws]).T for name in self.names}

    def additive(self, statistics: Floats) -> Floats:
        """Return what is summed over images. (P, S) -> (P, R)

        :param statistics: a row of ``MetricScores.statistics`` per image
        """
        return statistics

    def from_sums(self, sums: Floats) -> Floats:
        """Return the corpus scores of sums over images. (..., R) -> (..., len(names))

        :param sums: of the rows of :meth:`additive`
        """
        raise NotImplementedError

    def notes(self, images: int) -> tuple[str, ...]:
        """Return what readers of the scores of a set of ``images`` should know."""
        return ()
