"""METEOR 1.5 (Denkowski & Lavie 2014) by its own Java program, as pycocoevalcap runs it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.meteor import meteor as pycoco_meteor

from multispace.pipeline.console.progress import Progress
from multispace.pipeline.metrics.captions.metric import (
    TIME_LIMIT,
    Floats,
    Metric,
    MetricScores,
    Scorer,
    Tokens,
)
from multispace.pipeline.metrics.java import JavaError, JavaProgram

METEOR_JAR = Path(pycoco_meteor.__file__).parent / pycoco_meteor.METEOR_JAR
SEPARATOR = "|||"  # between the fields of METEOR's lines

CHUNKS = 20  # column of METEOR's statistics
# METEOR 1.5, English, task "rank" (Denkowski & Lavie 2014, table 1).
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
MATCHERS = np.array([1.0, 0.6, 0.8, 0.6])  # exact, stem, synonym, paraphrase


class MeteorMetric(Metric):
    """METEOR, whose corpus score is a function of statistics summed over images."""

    option = "meteor"
    names = ("METEOR",)
    statistics = 23  # as METEOR prints them

    def score(self, references: Tokens, captions: Tokens) -> MetricScores:
        """Score one caption per image; see :meth:`Metric.score`.

        :raises JavaError: METEOR fails.
        """
        with self.start(TIME_LIMIT) as score:
            return score(references, captions)

    @contextmanager
    def start(self, time_limit: float) -> Iterator[Scorer]:
        """Start METEOR, which loads its tables for seconds, and give a function that asks it.

        :raises JavaError: METEOR fails or exceeds the time limit.
        """
        arguments = ["-Xmx2G", "-jar", str(METEOR_JAR), "-", "-", "-stdio", "-l", "en", "-norm"]
        with JavaProgram(arguments, name="METEOR", time_limit=time_limit) as program:
            yield lambda references, captions: _score(program, references, captions)

    def additive(self, statistics: Floats) -> Floats:
        """Return the statistics with no chunk for captions that match in one piece."""
        return without_whole(statistics)

    def from_sums(self, sums: Floats) -> Floats:
        """Return METEOR of sums over images."""
        return meteor(sums)[..., None]


METRIC = MeteorMetric()


def without_whole(statistics: Floats) -> Floats:
    """Count no chunk for captions that match in one piece, as METEOR does in sums. (P, 23)"""
    summed = statistics.copy()
    summed[_whole(statistics), CHUNKS] = 0
    return summed


def meteor(statistics: Floats) -> Floats:
    """Return METEOR 1.5 (Denkowski & Lavie 2014) of its statistics. (..., 23) -> (...)

    The columns are: words and function words of caption and reference (caption, reference,
    caption, reference), then, for each matcher, matched content words of both and matched
    function words of both, then chunks and matched words of both.
    """
    length, other, function, other_function = np.moveaxis(statistics[..., :4], -1, 0)
    matches = statistics[..., 4:CHUNKS].reshape(*statistics.shape[:-1], 4, 4)
    content, other_content, small, other_small = np.moveaxis(
        np.einsum("...mk,m->...k", matches, MATCHERS), -1, 0
    )
    precision = _matched(content, small, length, function)
    recall = _matched(other_content, other_small, other, other_function)
    product = precision * recall
    mean = _divide(product, ALPHA * precision + (1 - ALPHA) * recall)
    matched = (statistics[..., 21] + statistics[..., 22]) / 2
    fragments = np.where(_whole(statistics), 0.0, _divide(statistics[..., CHUNKS], matched))
    return mean * (1 - GAMMA * fragments**BETA)


def _whole(statistics: Floats) -> NDArray[np.bool_]:
    same = statistics[..., 21:23] == statistics[..., :2]
    return same.all(-1) & (statistics[..., CHUNKS] == 1)


def _matched(content: Floats, small: Floats, length: Floats, function: Floats) -> Floats:
    """Return the fraction of words matched, content words counting three times the others."""
    whole = DELTA * (length - function) + (1 - DELTA) * function
    return _divide(DELTA * content + (1 - DELTA) * small, whole)


def _divide(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(above, dtype=float), where=below != 0)


def _score(program: JavaProgram, references: Tokens, captions: Tokens) -> MetricScores:
    lines = []
    for image_id, (caption,) in captions.items():
        # As pycocoevalcap does for captions; its references would split at the separator.
        fields = [text.replace(SEPARATOR, "") for text in references[image_id]]
        fields.append(caption.replace(SEPARATOR, "").replace("  ", " "))
        lines.append(f" {SEPARATOR} ".join(["SCORE", *fields]))
    with Progress(len(lines), "captions", "METEOR") as progress:
        statistics = program.exchange(lines, len(lines), progress.advance)
    question = f" {SEPARATOR} ".join(["EVAL", *statistics])
    *each, corpus = [_number(answer) for answer in program.exchange([question], len(lines) + 1)]
    rows = [[_number(value) for value in line.split()] for line in statistics]
    return MetricScores({"METEOR": corpus}, {"METEOR": each}, rows)


def _number(answer: str) -> float:
    try:
        number = float(answer)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise JavaError(
            f"METEOR answered {answer!r} instead of a score", hint="reinstall pycocoevalcap"
        )
    return number
