"""Which of several systems wins: answers in words, from differences and their intervals."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from multispace.pipeline.metrics.bootstrap import Group, bootstrap, interval
from multispace.pipeline.metrics.captions.metric import Floats
from multispace.pipeline.metrics.latents.latent_report import IGNORED, USED
from multispace.pipeline.reporting.contestants import Contestant

RESAMPLES = 2000
NO_WINNER = "no clear winner"
NOTE = (
    "a system wins where the 95 % interval of its lead over each other system excludes 0; "
    "intervals cover the choice of images, not of the training seed"
)

Scorer = Callable[[Floats], Floats]  # weights of images (B, P) -> scores (B,)


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


def answers(contestants: Sequence[Contestant], images: int) -> list[Answer]:
    """Answer which system is best at what, and which latents are in use.

    :param contestants: of one or more systems; `base` at two temperatures or more
    :param images: P, which all contestants share
    """

    def rows(scorer: Callable[[Contestant], Scorer]) -> dict[str, tuple[str, Scorer]]:
        return {each.name: (each.system, scorer(each)) for each in contestants}

    return [
        contest("best single caption (CIDEr)", rows(lambda each: _mean(each.cider)), images),
        contest(
            "best of the samples (CIDEr)", rows(lambda each: _mean(each.samples.best)), images
        ),
        diversity_at_equal_quality(contestants, images),
        contest("names colors right (precision)", rows(lambda each: _ratio(each.colours)), images),
        *latents_in_use(contestants),
    ]


def contest(
    question: str, rows: Mapping[str, tuple[str, Scorer]], images: int, remark: str = ""
) -> Answer:
    """Return the system whose best row leads the best row of each other system.

    :param rows: the system and the scores of each row, by the name of the row. A row whose score
        is NaN, which means that there is none, does not take part.
    :param images: number of images that are weighted
    :param remark: added to the evidence
    """
    ones = np.ones((1, images))
    points = {name: float(scorer(ones)[0]) for name, (_, scorer) in rows.items()}
    best: dict[str, str] = {}  # system -> its best row
    for name in sorted((n for n in rows if not np.isnan(points[n])), key=lambda n: -points[n]):
        best.setdefault(rows[name][0], name)
    leader, *others = best.values()
    if not others:
        return Answer(question, NO_WINNER, f"only {leader} can be compared{remark}")
    groups = [_group(rows[name][1]) for name in (leader, *others)]
    draws = bootstrap(groups, images, RESAMPLES, 0)[..., 0]  # (resamples, rows)
    leads = {
        name: interval(draws[:, 0] - draws[:, place]) for place, name in enumerate(others, 1)
    }
    level = [name for name, (low, _) in leads.items() if not low > 0]
    closest = level[0] if level else others[0]
    low, high = leads[closest]
    lead = points[leader] - points[closest]
    evidence = f"{leader} minus {closest}: {lead:+.3f} [{low:+.3f}, {high:+.3f}]{remark}"
    return Answer(question, NO_WINNER if level else rows[leader][0], evidence)


def latents_in_use(contestants: Iterable[Contestant]) -> Iterator[Answer]:
    """Yield which latents each system uses, by what shuffling them costs."""
    for each in contestants:
        if each.shuffled:
            uses = [f"{channel} {_use(nats)}" for channel, nats in each.shuffled.items()]
            costs = [f"{channel} {nats:+.2f}" for channel, nats in each.shuffled.items()]
            evidence = f"nats per caption when shuffled: {', '.join(costs)}"
            yield Answer(f"latents of {each.name}", ", ".join(uses), evidence)


def _use(nats: float) -> str:
    return "ignored" if nats < IGNORED else "used" if nats >= USED else "hardly used"


def diversity_at_equal_quality(contestants: Sequence[Contestant], images: int) -> Answer:
    """Compare the self-CIDEr of samples with that of `base` at the same mean CIDEr.

    `base` sampled at several temperatures gives a curve of self-CIDEr over mean CIDEr. Between
    two temperatures it is a straight line; beyond them nothing is compared.
    """
    curve = [each for each in contestants if each.system == "base"]
    rows: dict[str, tuple[str, Scorer]] = {"base": ("base", lambda weights: 0 * weights[:, 0])}
    beyond = []
    low, *_, high = sorted(each.samples.mean.mean() for each in curve)
    for each in contestants:
        if each.system == "base":
            continue
        if low <= each.samples.mean.mean() <= high:
            rows[each.name] = (each.system, above_curve(each, curve))
        else:
            beyond.append(f"{each.name} ({each.samples.mean.mean():.3f})")
    limits = f"mean CIDEr of base: {low:.3f} to {high:.3f}"
    remark = f"; not compared, {limits}: {', '.join(beyond)}" if beyond else ""
    return contest(
        "most diverse samples at equal quality",
        rows,
        images,
        remark,
    )


def above_curve(each: Contestant, curve: Sequence[Contestant]) -> Scorer:
    """Return by how much self-CIDEr exceeds that of a curve at the same mean CIDEr.

    Beyond an end of the curve, which a resample may reach, it is that of the end.

    :param curve: two contestants or more, joined by straight lines
    """
    quality = [_mean(point.samples.mean) for point in curve]
    diversity = [_mean(point.samples.self_cider) for point in curve]

    def scores(weights: Floats) -> Floats:
        x = np.stack([scorer(weights) for scorer in quality], -1)  # (B, points)
        y = np.stack([scorer(weights) for scorer in diversity], -1)
        order = np.argsort(x, axis=-1)
        x, y = np.take_along_axis(x, order, -1), np.take_along_axis(y, order, -1)
        own = _mean(each.samples.mean)(weights)
        at = [np.interp(*row) for row in zip(own, x, y, strict=True)]
        return _mean(each.samples.self_cider)(weights) - np.array(at)

    return scores


def _group(scorer: Scorer) -> Group:
    return Group((0,), (lambda weights: scorer(weights)[:, None],))


def _mean(values: Floats) -> Scorer:
    """Return the mean over weighted images of ``values``. (P,)"""
    return lambda weights: weights @ values / weights.sum(-1)


def _ratio(counts: Floats) -> Scorer:
    """Return the ratio of both columns' sums over weighted images; NaN for 0 by 0. (P, 2)"""

    def scores(weights: Floats) -> Floats:
        sums = weights @ counts
        with np.errstate(invalid="ignore"):
            return sums[:, 0] / sums[:, 1]

    return scores
