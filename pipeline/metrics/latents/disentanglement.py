"""Disentanglement scores of codes and known factors: functions of matrices with a row per image.

Codes are real (N, D); factors are int64 (N, F), classes 0, 1, ... or ranks. Factors may be
unbalanced: entropies are those of the images given.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from multispace.pipeline.console.progress import Count, uncounted

Codes = npt.NDArray[np.floating]
Classes = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]

BINS = 20
VOTE_BATCH = 64
MAX_VOTES = (10_000, 5_000)  # to learn from, to test on
MIN_STD = 0.05  # of a code that takes part in votes
STAGES = 30  # of boosting; more take minutes for 128 codes and change the scores little
FOLDS = 5


class Dci(NamedTuple):
    """Disentanglement, completeness, informativeness, and the importances (D, F) behind them."""

    disentanglement: float
    completeness: float
    informativeness: float
    importance: Scores


class FactorVae(NamedTuple):
    """The fraction of votes that are right, and how many were learnt from and tested."""

    score: float
    learnt: int
    judged: int
    codes: int  # those with a std of at least 0.05


def mutual_information(codes: Codes, factors: Classes, bins: int = BINS) -> Scores:
    """Return the mutual information of each code and each factor, in nats. (D, F)

    Codes are cut into ``bins`` of equal width between their minimum and maximum.

    :raises ValueError: the matrices do not both have a row per image.
    """
    _check(codes, factors)
    low, high = codes.min(0), codes.max(0)
    width = np.where(high > low, high - low, 1.0)
    cut = np.minimum((codes - low) / width * bins, bins - 1).astype(np.int64)
    counts = np.stack([_one_hot(column, bins) for column in cut.T])  # (D, N, bins)
    columns = []
    for factor in factors.T:
        joint = counts.transpose(0, 2, 1) @ _one_hot(factor) / len(codes)  # (D, bins, V)
        apart = _entropy(joint.sum(2)) + _entropy(joint.sum(1))
        columns.append(apart - _entropy(joint.reshape(len(joint), -1)))
    return np.stack(columns, axis=1)


def mig(codes: Codes, factors: Classes, bins: int = BINS) -> Scores:
    """Return the mutual information gap of each factor, 0 to 1 (Chen 2018, equation 6). (F,)

    It is the gap between the two codes with the highest mutual information with the factor,
    divided by the factor's entropy.

    :raises ValueError: as :func:`mutual_information`, or a factor is constant.
    """
    information = mutual_information(codes, factors, bins)
    entropy = np.array([_entropy(np.bincount(f) / len(f)) for f in factors.T])
    return _gap(information) / entropy


def sap(
    codes: Codes,
    factors: Classes,
    ordinal: Sequence[bool],
    seed: int = 0,
    count: Count = uncounted,
) -> Scores:
    """Return the separated attribute predictability of each factor (Kumar 2018). (F,)

    It is the gap between the two codes that predict the factor best, each on its own: by the
    squared correlation for an ordinal factor, else by the accuracy of a LinearSVC (C = 0.01,
    balanced classes) on the half of the images that it was not trained on.

    :param count: called for each factor
    :raises ValueError: as :func:`mig`
    """
    from sklearn.svm import LinearSVC

    _check(codes, factors)
    columns = []
    for factor, ranked in zip(factors.T, ordinal, strict=True):
        if ranked:
            columns.append(_squared_correlation(codes, factor))
            count(1)
            continue
        learn, judge = _split(factor, 2, seed)
        scores = []
        for code in codes.T[:, :, None]:
            machine = LinearSVC(C=0.01, class_weight="balanced", dual=False)
            machine.fit(code[learn], factor[learn])
            scores.append(machine.score(code[judge], factor[judge]))
        columns.append(np.array(scores))
        count(1)
    return _gap(np.stack(columns, axis=1))


def dci(codes: Codes, factors: Classes, seed: int = 0, count: Count = uncounted) -> Dci:
    """Return the three scores of Eastwood & Williams 2018, each 0 to 1.

    Importances are those of gradient-boosted trees (30 stages) that predict a factor from all
    codes; informativeness is their mean accuracy on the third of the images that they were not
    trained on.

    :param count: called for each factor
    :raises ValueError: as :func:`mig`
    """
    from sklearn.ensemble import GradientBoostingClassifier

    _check(codes, factors)
    importance, accuracy = [], []
    for factor in factors.T:
        learn, judge = _split(factor, 3, seed)
        trees = GradientBoostingClassifier(n_estimators=STAGES, random_state=seed)
        trees.fit(codes[learn], factor[learn])
        importance.append(trees.feature_importances_)
        accuracy.append(trees.score(codes[judge], factor[judge]))
        count(1)
    matrix = np.stack(importance, axis=1)
    return Dci(_certainty(matrix), _certainty(matrix.T), float(np.mean(accuracy)), matrix)


def factor_vae(codes: Codes, factors: Classes, seed: int = 0) -> FactorVae:
    """Return the score of Kim & Mnih 2018, section 3: accuracy of a majority vote.

    A vote fixes one factor at a random image's value, draws 64 such images with replacement, and
    names the code with the smallest variance relative to that over all images; codes with a std
    below 0.05 are left out. There are ten votes per image to learn from and five to test on, at
    most 10,000 and 5,000; both draw from the same images.

    :raises ValueError: as :func:`mig`
    """
    _check(codes, factors)
    random = np.random.default_rng(seed)
    spread = codes.std(0)
    kept = np.flatnonzero(spread >= MIN_STD)
    learnt, judged = min(MAX_VOTES[0], 10 * len(codes)), min(MAX_VOTES[1], 5 * len(codes))
    if not len(kept):
        return FactorVae(0.0, learnt, judged, 0)
    scaled = codes[:, kept] / spread[kept]
    fixed = random.integers(factors.shape[1], size=learnt + judged)
    named = np.empty_like(fixed)
    rows = [[np.flatnonzero(f == value) for value in range(f.max() + 1)] for f in factors.T]
    for vote, factor in enumerate(fixed):
        value = factors[random.integers(len(codes)), factor]
        drawn = random.choice(rows[factor][value], VOTE_BATCH)
        named[vote] = scaled[drawn].var(0).argmin()
    votes = np.zeros((len(kept), factors.shape[1]))
    np.add.at(votes, (named[:learnt], fixed[:learnt]), 1)
    right = votes.argmax(1)[named[learnt:]] == fixed[learnt:]
    return FactorVae(float(right.mean()), learnt, judged, len(kept))


def probe(codes: Codes, factor: Classes) -> float:
    """Return the cross-validated accuracy of a logistic regression on standardized codes.

    There are five stratified folds, or fewer where a value occurs fewer than five times.

    :raises ValueError: as :func:`mig`
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _check(codes, factor[:, None])
    counts = np.bincount(factor)
    folds = int(min(FOLDS, counts[counts > 0].min()))
    if folds < 2:
        raise ValueError("a value of the factor occurs once; leave out such images")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    even = StratifiedKFold(folds, shuffle=True, random_state=0)
    return float(cross_val_score(model, codes, factor, cv=even).mean())


def majority(factor: Classes) -> float:
    """Return the fraction of the commonest value: the accuracy of a guess without codes."""
    return float(np.bincount(factor).max() / len(factor))


def _check(codes: Codes, factors: Classes) -> None:
    """Refuse matrices that are transposed or do not fit each other."""
    shapes = f"codes {codes.shape} and factors {factors.shape}: expected (N, D) and (N, F)"
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):
        raise ValueError(f"{shapes}, a row per image")
    if len(factors) <= factors.shape[1]:
        raise ValueError(f"{shapes} with N above F; are they transposed?")
    if (factors == factors[0]).all(0).any():
        raise ValueError("a factor is constant; leave it out")


def _one_hot(values: Classes, size: int = 0) -> Scores:
    return np.eye(max(size, int(values.max()) + 1))[values]


def _entropy(probabilities: Scores) -> Scores:
    """Return the entropy over the last axis, in nats."""
    logs = np.log(probabilities, where=probabilities > 0, out=np.zeros_like(probabilities))
    return -(probabilities * logs).sum(-1)


def _gap(scores: Scores) -> Scores:
    """Return the largest score of each column minus the second largest. (D, F) -> (F,)"""
    if len(scores) == 1:
        return scores[0]
    second, first = np.sort(scores, axis=0)[-2:]
    return first - second


def _squared_correlation(codes: Codes, factor: Classes) -> Scores:
    centred, other = codes - codes.mean(0), factor - factor.mean()
    scale = centred.std(0) * other.std()
    covariance = (centred * other[:, None]).mean(0)
    return np.divide(covariance, scale, where=scale > 0, out=np.zeros(len(scale))) ** 2


def _certainty(importance: Scores) -> float:
    """Return 1 - normalized entropy of the rows, weighted by the rows' sums. (n, m)"""
    total = importance.sum(1)
    if not total.sum() or importance.shape[1] == 1:
        return float(total.sum() > 0)
    rows = importance[total > 0] / total[total > 0, None]
    certain = 1 - _entropy(rows) / np.log(importance.shape[1])
    return float(certain @ total[total > 0] / total.sum())


def _split(factor: Classes, parts: int, seed: int) -> tuple[Classes, Classes]:
    """Split the rows at random into ``parts``; return those of all parts but one, and of that one.

    Each value is spread evenly over the parts, so that no value is tested that was not learnt.
    """
    order = np.random.default_rng(seed).permutation(len(factor))
    order = order[np.argsort(factor[order], kind="stable")]
    judged = np.arange(len(order)) % parts == 1
    return order[~judged], order[judged]
