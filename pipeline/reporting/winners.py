"""Which of several systems wins: answers in words, from differences and their intervals."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from multispace.pipeline.metrics.bootstrap import Group, bootstrap, interval
from multispace.pipeline.metrics.captions.metric import Floats
from multispace.pipeline.metrics.interpolation import interpolate
from multispace.pipeline.metrics.latents.latent_report import IGNORED, USED
from multispace.pipeline.reporting.contestants import SampleScores, SingleScores

RESAMPLES = 2000
NO_WINNER = "no clear winner"
NOTE = (
    "a system wins where the 95 % interval of its lead over each other system excludes 0; "
    "intervals cover the choice of images, not of the training seed"
)

Scorer = Callable[[Floats], Floats]  # weights of images (B, P) -> scores (B,)


@dataclass(frozen=True)
class Row:
    """A row of a table: its system, and its score over weighted images."""

    system: str
    score: Scorer


@dataclass(frozen=True)
class Answer:
    """The answer to a question about systems.

    :param answer: the system that wins, NO_WINNER, or a description
    :param evidence: the numbers behind it, in words
    """

    question: str
    answer: str
    evidence: str

    def to_json(self) -> dict[str, str]:
        """Return plain values."""
        return asdict(self)


def answers(single: Sequence[SingleScores], sampled: Sequence[SampleScores]) -> list[Answer]:
    """Answer which system is best at what.

    A system may make its single caption in its own way, or as the consensus of its samples.

    :param single: of two or more systems, on the same images
    :param sampled: of the same systems and images; `base` at two or more temperatures
    """
    return [
        contest(
            "best single caption (CIDEr)",
            {each.name: Row(each.system, weighted_mean(each.cider)) for each in single}
            | {
                f"{each.name}, consensus": Row(each.system, weighted_mean(each.consensus))
                for each in sampled
            },
            len(single[0].cider),
        ),
        contest(
            "best of the samples (CIDEr)",
            {each.name: Row(each.system, weighted_mean(each.best)) for each in sampled},
            len(sampled[0].best),
        ),
        equal_quality(sampled),
        contest(
            "names colors right (precision)",
            {each.name: Row(each.system, weighted_ratio(each.colours)) for each in single},
            len(single[0].cider),
        ),
    ]


def contest(question: str, rows: Mapping[str, Row], images: int, remark: str = "") -> Answer:
    """Return the system whose best row leads the best row of each other system.

    :param rows: by name. A row without a score (NaN) does not take part.
    :param images: number of images that are weighted
    :param remark: added to the evidence
    """
    ones = np.ones((1, images))
    points = {name: float(row.score(ones)[0]) for name, row in rows.items()}
    best: dict[str, str] = {}  # system -> its best row
    for name in sorted((n for n in rows if not np.isnan(points[n])), key=lambda n: -points[n]):
        best.setdefault(rows[name].system, name)
    if len(best) < 2:
        return Answer(question, NO_WINNER, f"fewer than two systems have a score{remark}")
    leader, *others = best.values()
    groups = [_group(rows[name].score) for name in (leader, *others)]
    draws = bootstrap(groups, images, RESAMPLES, 0)[..., 0]  # (resamples, rows)
    leads = {name: interval(draws[:, 0] - draws[:, place]) for place, name in enumerate(others, 1)}
    level = [name for name, (low, _) in leads.items() if not low > 0]
    closest = level[0] if level else others[0]
    low, high = leads[closest]
    lead = points[leader] - points[closest]
    evidence = f"{leader} minus {closest}: {lead:+.3f} [{low:+.3f}, {high:+.3f}]{remark}"
    return Answer(question, NO_WINNER if level else rows[leader].system, evidence)


def _group(score: Scorer) -> Group:
    return Group((0,), (lambda weights: score(weights)[:, None],))


def latent_use(single: Iterable[SingleScores]) -> Iterator[Answer]:
    """Yield which latents each system uses, by what shuffling them costs."""
    for each in single:
        if each.shuffled:
            costs = [f"{channel} {nats:+.2f}" for channel, nats in each.shuffled.items()]
            evidence = f"nats per caption when shuffled: {', '.join(costs)}"
            yield Answer(f"latents of {each.name}", use_in_words(each.shuffled), evidence)


def use_in_words(shuffled: Mapping[str, float]) -> str:
    """Say for each latent whether the decoder uses it.

    :param shuffled: nats per caption that shuffling it costs
    """
    return ", ".join(f"{channel} {_use(nats)}" for channel, nats in shuffled.items())


def _use(nats: float) -> str:
    return "ignored" if nats < IGNORED else "used" if nats >= USED else "hardly used"


def equal_quality(sampled: Sequence[SampleScores]) -> Answer:
    """Compare the self-CIDEr of samples with that of `base` at the same mean CIDEr.

    `base` sampled at several temperatures gives a curve of self-CIDEr over mean CIDEr. Between
    two temperatures it is a straight line; beyond them nothing is compared.
    """
    curve = [each for each in sampled if each.system == "base"]
    quality = [each.mean.mean() for each in curve]
    rows = {"base": Row("base", lambda weights: np.zeros(len(weights)))}
    beyond = []
    for each in (each for each in sampled if each.system != "base"):
        if min(quality) <= each.mean.mean() <= max(quality):
            rows[each.name] = Row(each.system, above_curve(each, curve))
        else:
            beyond.append(each.name)
    remark = f"; no temperature of base has the quality of {', '.join(beyond)}" if beyond else ""
    question = "most diverse samples at equal quality (self-CIDEr)"
    return contest(question, rows, len(curve[0].mean), remark)


def above_curve(samples: SampleScores, curve: Sequence[SampleScores]) -> Scorer:
    """Return by how much self-CIDEr exceeds that of a curve at the same mean CIDEr.

    Beyond an end of the curve, which a resample may reach, it is that of the end.

    :param curve: two points or more, joined by straight lines
    """

    def scores(weights: Floats) -> Floats:
        x = np.stack([weighted_mean(point.mean)(weights) for point in curve], -1)  # (B, points)
        y = np.stack([weighted_mean(point.self_cider)(weights) for point in curve], -1)
        quality = np.clip(weighted_mean(samples.mean)(weights), x.min(1), x.max(1))
        own = weighted_mean(samples.self_cider)(weights)
        return own - interpolate(x, y[..., None], quality)[:, 0]

    return scores


def weighted_mean(values: Floats) -> Scorer:
    """Return the mean over weighted images of ``values``. (P,)"""
    return lambda weights: weights @ values / weights.sum(-1)


def weighted_ratio(counts: Floats) -> Scorer:
    """Return the ratio of both columns' sums over weighted images; NaN for 0 by 0. (P, 2)"""

    def ratio(weights: Floats) -> Floats:
        sums = weights @ counts
        with np.errstate(invalid="ignore"):
            return sums[:, 0] / sums[:, 1]

    return ratio
