import math
from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from multispace.model.latent.distributions import Categoricals, DiagonalGaussian
from multispace.model.latent.posterior import Posterior

ROWS, Z, K = 4, 3, 5


def gaussian() -> DiagonalGaussian:
    torch.manual_seed(0)
    return DiagonalGaussian(torch.randn(ROWS, Z), torch.randn(ROWS, Z))


def categorical() -> Categoricals:
    torch.manual_seed(1)
    return Categoricals.from_parameters(torch.randn(ROWS, K + 2), (K, 2))


@pytest.fixture
def whole() -> Posterior:
    torch.manual_seed(2)
    return Posterior(
        gaussian(), categorical(), torch.randn(ROWS, Z), 0.5, image=torch.randn(ROWS, 2)
    )


def test_the_condition_is_moved_and_scaled_z_then_c_then_the_image(whole):
    z, cs, image = whole.mode().split((Z, K + 2, 2), -1)
    torch.testing.assert_close(z, whole.center + 0.5 * whole.z.mean)
    torch.testing.assert_close(cs.square().sum(-1), torch.full((ROWS,), K + 2.0))
    assert torch.equal((cs > 0).float(), whole.c.mode())
    assert torch.equal(image, whole.image)
    assert torch.equal(whole.latents(), torch.cat((whole.z.mean, whole.c.mode()), -1))
    assert torch.equal(Posterior(z=gaussian()).mode(), gaussian().mean)


def test_the_kl_to_a_prior_elsewhere_is_that_of_z_to_the_standard_one(whole):
    q = Normal(
        whole.center + whole.std * whole.z.mean,
        whole.std * (whole.z.log_variance / 2).exp(),
    )
    kl = kl_divergence(q, Normal(whole.center, whole.std)).sum(-1).mean()
    torch.testing.assert_close(whole.kl_z(), kl)


def test_draws_from_the_prior_have_its_form(whole):
    many = whole.select(torch.zeros(20_000, dtype=torch.int64))
    z, c, d = many.prior_sample().split((Z, K, 2), -1)
    assert z.mean().abs() < 5 / math.sqrt(z.numel())
    assert z.var().item() == pytest.approx(1, abs=0.03)
    for part, size in ((c, K), (d, 2)):
        assert (part.sum(-1) == 1).all()
        assert (part.mean(0) - 1 / size).abs().max() < 0.02


def test_rows_are_taken_with_all_that_belongs_to_them(whole):
    rows = torch.tensor([2, 0, 2])
    assert torch.equal(whole.select(rows).mode(), whole.mode()[rows])
    only = Posterior(c=categorical())
    assert torch.equal(only.select(rows).mode(), only.mode()[rows])


@pytest.mark.parametrize("channels", ["z", "c", "zc"])
def test_channels_are_left_out_of_the_latents_and_the_image_stays(whole, channels):
    plain = replace(whole, center=None)
    rows = torch.tensor([[True], [False], [True], [False]])
    latents = plain.latents() + 1.0
    some, every = (plain.without(latents, channels, only) for only in (rows, None))
    zeros = torch.zeros_like(latents)
    expected = torch.cat(
        ((zeros if "z" in channels else latents)[:, :Z],
         (zeros if "c" in channels else latents)[:, Z:]), -1
    )  # fmt: skip
    assert torch.equal(every, expected)
    assert torch.equal(some, torch.where(rows, expected, latents))
    assert torch.equal(plain.condition(every)[:, -2:], whole.image)


def test_a_learnt_prior_goes_with_its_rows(whole):
    torch.manual_seed(4)
    logits, prior = torch.randn(2, ROWS, K + 2)
    posterior = replace(whole, c=Categoricals.from_parameters(logits, (K, 2), prior))
    rows = torch.tensor([2, 0, 2])
    assert torch.equal(posterior.select(rows).c.kl(), posterior.c.kl()[rows])
    parts = [posterior.select(torch.tensor(part)) for part in ([0, 1], [2], [3])]
    assert torch.equal(Posterior.stack(parts).c.kl(), posterior.c.kl())


@pytest.mark.parametrize("has", ["zc", "z", "c", ""])
def test_parts_on_end_are_the_whole(whole, has):
    one = Posterior(
        whole.z if "z" in has else None,
        whole.c if "c" in has else None,
        whole.center if has == "zc" else None,
        whole.std,
        whole.image,
    )
    parts = [one.select(torch.tensor(rows)) for rows in ([0, 1], [2], [3])]
    again = Posterior.stack(parts)
    assert (again.z is None, again.c is None) == (one.z is None, one.c is None)
    if has:
        assert torch.equal(again.mode(), one.mode())
        assert again.kl_z() == one.kl_z()
        assert again.kl_c() == one.kl_c()


def test_spread_samples_fall_once_into_each_interval_of_equal_probability(whole):
    count = 8
    posterior = replace(whole, center=None, image=None, scale_c=1.0)
    drawn = posterior.spread_samples(count, [7, 8, 9, 10]).unflatten(0, (ROWS, count))
    z, c = drawn.split((Z, K + 2), -1)
    std = (0.5 * whole.z.log_variance).exp()
    levels = Normal(whole.z.mean[:, None], std[:, None]).cdf(z)
    intervals = (levels * count).floor().long().sort(1).values
    assert torch.equal(intervals, torch.arange(count)[None, :, None].expand(ROWS, count, Z))
    expected = torch.cat(whole.c.log_probabilities, -1).exp() * count
    # The number of times a category is drawn is its expectation, rounded up or down, or next to it.
    assert ((c.sum(1) - expected).abs() < 2).all()
    assert set(c.unique().tolist()) == {0.0, 1.0}


def test_each_spread_sample_has_the_distribution_of_the_posterior(whole):
    posterior = replace(whole, center=None, image=None, scale_c=1.0).select(torch.tensor([0]))
    first = torch.stack([posterior.spread_samples(3, [seed])[0] for seed in range(3000)])
    z, c = first.split((Z, K + 2), -1)
    std = (0.5 * whole.z.log_variance[0]).exp()
    assert ((z.mean(0) - whole.z.mean[0]).abs() < 5 * std / 3000**0.5).all()
    torch.testing.assert_close(z.std(0), std, rtol=0.1, atol=0)
    p = torch.cat(whole.c.log_probabilities, -1)[0].exp()
    assert ((c.mean(0) - p).abs() < 5 * (p * (1 - p) / 3000).sqrt()).all()


def test_spread_samples_of_an_image_depend_on_its_seed_alone(whole):
    every = whole.spread_samples(4, [1, 2, 3, 4])
    one = whole.select(torch.tensor([2])).spread_samples(4, [3])
    assert torch.equal(every[8:12], one)
    assert not torch.equal(whole.select(torch.tensor([2])).spread_samples(4, [5]), one)


def test_a_temperature_narrows_z_and_sharpens_c(whole):
    cold = whole.tempered(0.5)
    assert torch.equal(cold.z.mean, whole.z.mean)
    ratio = (0.5 * (cold.z.log_variance - whole.z.log_variance)).exp()
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.5))
    for before, after in zip(whole.c.log_probabilities, cold.c.log_probabilities, strict=True):
        squares = before.exp().square()
        torch.testing.assert_close(after.exp(), squares / squares.sum(-1, keepdim=True))
    torch.testing.assert_close(whole.tempered(1.0).mode(), whole.mode())


def test_all_parts_move_to_a_device(whole):
    moved = whole.to("meta")
    parts = (moved.z.mean, moved.z.log_variance, moved.center, moved.image)
    assert {part.device.type for part in (*parts, *moved.c.log_probabilities)} == {"meta"}
    assert (moved.std, moved.scale_c) == (whole.std, whole.scale_c)
    prior = Categoricals.from_parameters(torch.randn(2, 3), (3,), torch.randn(2, 3)).to("meta")
    assert prior.log_prior[0].device.type == "meta"
    assert Posterior(z=gaussian()).to("meta").c is None
