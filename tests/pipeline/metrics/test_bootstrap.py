import numpy as np
import pytest

from multispace.pipeline.metrics import bootstrap as module
from multispace.pipeline.metrics.bootstrap import Group, bootstrap, interval


def mean_of(values):
    """Return a scorer for a score that is a mean over images."""
    return lambda weights: (weights @ values / weights.sum(-1))[:, None]


def test_like_groups_differ_by_exactly_0():
    random = np.random.default_rng(0)
    values = random.normal(size=(3, 50))
    one = Group((0, 1, 2), tuple(map(mean_of, values)))
    two = Group((2, 0, 1), tuple(mean_of(v.copy()) for v in values[[2, 0, 1]]))
    draws = bootstrap([one, two], 50, 200, seed=1)
    assert interval(draws[:, 1, 0] - draws[:, 0, 0]) == (0.0, 0.0)
    assert draws[:, 0, 0].std() > 0


def test_images_are_paired():
    values = np.random.default_rng(0).normal(size=80)
    groups = [Group((0,), (mean_of(values),)), Group((5,), (mean_of(values + 0.25),))]
    draws = bootstrap(groups, 80, 300, seed=1)
    low, high = interval(draws[:, 1, 0] - draws[:, 0, 0])
    assert (low, high) == pytest.approx((0.25, 0.25))


def test_one_seed_gives_the_standard_error_of_a_mean():
    values = np.random.default_rng(2).normal(3, 2, size=400)
    draws = bootstrap([Group((0,), (mean_of(values),))], 400, 4000, seed=3)[:, 0, 0]
    error = values.std() / 20
    assert draws.std() == pytest.approx(error, rel=0.05)
    low, high = interval(draws)
    assert (low - values.mean(), high - values.mean()) == pytest.approx(
        (-1.96 * error, 1.96 * error), rel=0.1
    )


def test_seeds_add_their_own_variance():
    # Images are all alike, so that only the seeds vary: the closed form is their deviation.
    levels = np.random.default_rng(4).normal(size=20)
    group = Group(tuple(range(20)), tuple(mean_of(np.full(10, level)) for level in levels))
    draws = bootstrap([group], 10, 4000, seed=0)[:, 0, 0]
    assert draws.mean() == pytest.approx(levels.mean(), abs=0.02)
    assert draws.std() == pytest.approx(levels.std() / np.sqrt(20), rel=0.05)


def test_intervals_of_a_difference_cover_the_truth_as_often_as_they_say():
    # Paired normal data: the difference's deviation is sqrt(2) of the noise, whatever is shared.
    random = np.random.default_rng(7)
    truth, covered, widths = 0.3, 0, []
    for trial in range(200):
        shared, noise = 5 * random.normal(size=60), random.normal(size=(2, 60))
        groups = [
            Group((0,), (mean_of(shared + noise[0]),)),
            Group((0,), (mean_of(shared + noise[1] + truth),)),
        ]
        draws = bootstrap(groups, 60, 500, seed=trial)
        low, high = interval(draws[:, 1, 0] - draws[:, 0, 0])
        covered += low <= truth <= high
        widths.append(high - low)
    assert 0.90 <= covered / 200 <= 0.985
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.sqrt(2 / 60), rel=0.05)


def test_draws_follow_from_the_seed_alone_and_not_from_memory(monkeypatch):
    values = np.random.default_rng(0).normal(size=30)
    groups = [Group((0, 1), (mean_of(values), mean_of(values**2)))]
    whole = bootstrap(groups, 30, 100, seed=5)
    monkeypatch.setattr(module, "BLOCK", 30 * 7)
    np.testing.assert_allclose(bootstrap(groups, 30, 100, seed=5), whole, rtol=1e-12)
    assert not np.allclose(bootstrap(groups, 30, 100, seed=6), whole)


def test_a_seed_counts_once():
    with pytest.raises(ValueError, match="one is repeated"):
        Group((1, 1), (mean_of(np.ones(2)),) * 2)


def test_what_is_unknown_widens_an_interval_on_both_sides():
    values = np.arange(1000.0)
    low, high = interval(values)
    assert (low, high) == pytest.approx((0.025 * 999, 0.975 * 999))
    values[500:510] = np.nan
    assert interval(values) == pytest.approx((low - 10, high + 10))
    values[500:600] = np.nan
    assert interval(values) == (-np.inf, np.inf)
