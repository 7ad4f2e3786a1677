import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from multispace.model.latent.distributions import LOG_VARIANCE_RANGE, Categoricals, DiagonalGaussian
from multispace.model.latent.losses import batch_kl

SIZES = (4, 2, 7)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def gaussian(rows: int = 5, dimensions: int = 3) -> DiagonalGaussian:
    return DiagonalGaussian(torch.randn(rows, dimensions), torch.randn(rows, dimensions))


def categoricals(rows: int = 5, scale: float = 2.0) -> Categoricals:
    return Categoricals.from_parameters(scale * torch.randn(rows, sum(SIZES)), SIZES)


def one(probabilities: list[float], rows: int) -> Categoricals:
    return Categoricals((torch.tensor(probabilities).log().expand(rows, -1),))


def assert_frequencies(counts: Tensor, probabilities: Tensor) -> None:
    """Check counts of independent draws to 5 standard deviations of a binomial."""
    draws = counts.sum()
    allowed = 5 * (probabilities * (1 - probabilities) / draws).sqrt()
    assert ((counts / draws - probabilities).abs() < allowed).all()


def is_one_hot(rows: Tensor, sizes: tuple[int, ...]) -> bool:
    values = set(rows.unique().tolist())
    return values == {0.0, 1.0} and all((p.sum(-1) == 1).all() for p in rows.split(sizes, -1))


# The Gaussian


@pytest.mark.parametrize(
    ("mean", "variance", "nats"),
    [(0, 1, 0), (1, 1, 0.5), (-2, 1, 2), (0, math.e, math.e / 2 - 1), (0, 0.25, 0.3181472)],
)
def test_gaussian_kl_by_hand(mean, variance, nats):
    q = DiagonalGaussian(torch.tensor([[float(mean)]]), torch.tensor([[float(variance)]]).log())
    assert q.kl().item() == pytest.approx(nats, abs=1e-6)


def test_gaussian_kl_is_that_of_torch_distributions():
    q = gaussian()
    normal = Normal(q.mean, (0.5 * q.log_variance).exp())
    prior = Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean))
    torch.testing.assert_close(q.kl(), kl_divergence(normal, prior))
    joint = kl_divergence(Independent(normal, 1), Independent(prior, 1))
    torch.testing.assert_close(batch_kl(q.kl()), joint.mean())


def test_gaussian_samples_have_the_mean_and_variance():
    n = 40_000
    mean, variance = torch.tensor([-1.0, 0.0, 3.0]), torch.tensor([0.01, 1.0, 4.0])
    draws = DiagonalGaussian(mean.expand(n, 3), variance.log().expand(n, 3)).sample()
    assert ((draws.mean(0) - mean).abs() < 5 * (variance / n).sqrt()).all()
    assert ((draws.var(0) / variance - 1).abs() < 5 * math.sqrt(2 / n)).all()
    correlation = torch.corrcoef(draws.T) - torch.eye(3)
    assert correlation.abs().max() < 5 / math.sqrt(n)


def test_gaussian_mode_is_the_mean():
    q = gaussian()
    assert torch.equal(q.mode(), q.mean)


def test_gaussian_parameters_are_mean_then_log_variance():
    q = DiagonalGaussian.from_parameters(torch.tensor([[1.0, 2.0, -3.0, 0.5]]))
    assert q.mean.tolist() == [[1, 2]]
    assert q.log_variance.tolist() == [[-3, 0.5]]


def test_log_variance_is_bounded():
    q = DiagonalGaussian.from_parameters(torch.tensor([[0.0, 0.0, -1e4, 1e4]]))
    assert q.log_variance.tolist() == [list(LOG_VARIANCE_RANGE)]
    assert torch.isfinite(q.sample()).all()
    assert torch.isfinite(q.kl()).all()


def test_gaussian_gradients_are_those_of_the_reparameterisation():
    parameters = torch.tensor([[0.3, -0.2, 0.5, -1.5]], requires_grad=True)
    q = DiagonalGaussian.from_parameters(parameters)
    draw = q.sample()
    draw.sum().backward()
    # z = m + e exp(l / 2): dz/dm = 1, dz/dl = (z - m) / 2
    expected = torch.cat((torch.ones(1, 2), (draw - q.mean) / 2), -1)
    torch.testing.assert_close(parameters.grad, expected.detach())


def test_gaussian_log_density_is_that_of_torch_distributions():
    q, z = gaussian(), torch.randn(5, 3)
    normal = Normal(q.mean, (0.5 * q.log_variance).exp())
    torch.testing.assert_close(q.log_density(z), normal.log_prob(z))


def test_gaussian_prior_samples():
    draws = DiagonalGaussian(torch.ones(40_000, 2), torch.ones(40_000, 2)).prior_sample()
    assert draws.shape == (40_000, 2)
    assert draws.mean(0).abs().max() < 5 / 200
    assert (draws.var(0) - 1).abs().max() < 5 * math.sqrt(2 / 40_000)


# The categoricals


@pytest.mark.parametrize(
    ("probabilities", "nats"),
    [
        ([0.25, 0.25, 0.25, 0.25], 0),
        ([0.5, 0.5, 1e-30, 1e-30], math.log(2)),
        ([1.0, 1e-30, 1e-30, 1e-30], math.log(4)),
        ([0.9, 0.1], 0.3680642),
    ],
)
def test_categorical_kl_by_hand(probabilities, nats):
    assert one(probabilities, 1).kl().item() == pytest.approx(nats, abs=1e-6)


def test_categorical_kl_is_that_of_torch_distributions():
    q = categoricals()
    expected = [
        kl_divergence(Categorical(logits=p), Categorical(logits=torch.zeros_like(p)))
        for p in q.log_probabilities
    ]
    torch.testing.assert_close(q.kl(), torch.stack(expected, -1))
    torch.testing.assert_close(batch_kl(q.kl()), sum(expected).mean())


def test_categorical_parameters_are_the_variables_side_by_side():
    parameters = torch.randn(5, sum(SIZES))
    q = Categoricals.from_parameters(parameters, SIZES)
    assert [p.shape[-1] for p in q.log_probabilities] == list(SIZES)
    for log_p, part in zip(q.log_probabilities, parameters.split(SIZES, -1), strict=True):
        torch.testing.assert_close(log_p.exp(), part.softmax(-1))


@pytest.mark.parametrize("temperature", [0.1, 0.67, 5.0])
def test_each_variable_of_a_relaxed_sample_sums_to_one(temperature):
    draw = categoricals().sample(temperature)
    assert draw.shape == (5, sum(SIZES))
    assert (draw >= 0).all()
    for part in draw.split(SIZES, -1):
        torch.testing.assert_close(part.sum(-1), torch.ones(5))


def test_temperature_goes_from_one_hot_to_uniform():
    q = one([0.4, 0.3, 0.2, 0.1], 2000)
    largest = [q.sample(t).max(-1).values.mean().item() for t in (1e-3, 0.67, 1e3)]
    assert largest[0] > 0.999
    assert 0.5 < largest[1] < 0.95
    assert largest[2] == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("temperature", [0.1, 0.67, 2.0])
def test_arg_max_of_relaxed_samples_follows_the_probabilities(temperature):
    p = [0.5, 0.3, 0.15, 0.05]
    draw = one(p, 40_000).sample(temperature)
    assert_frequencies(draw.argmax(-1).bincount(minlength=4), torch.tensor(p))


def test_relaxed_samples_of_a_binary_variable_follow_the_concrete_distribution():
    # Maddison 2017: temperature * logit(y) - log odds is logistic, whatever the odds.
    n, temperature = 20_000, 0.67
    draw = one([0.8, 0.2], n).sample(temperature)
    logit = (draw[:, 0].double() / draw[:, 1].double()).log()
    cdf = (temperature * logit - math.log(4)).sigmoid().sort().values
    distance = (cdf - (torch.arange(n) + 0.5) / n).abs().max()
    assert distance < 2.2 / math.sqrt(n)  # Kolmogorov's distribution: chance of 1 in 8,000


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature is {temperature}"):
        categoricals().sample(temperature)


def test_categorical_mode_is_the_one_hot_arg_max():
    q = categoricals()
    mode = q.mode()
    assert is_one_hot(mode, SIZES)
    for part, log_p in zip(mode.split(SIZES, -1), q.log_probabilities, strict=True):
        assert torch.equal(part.argmax(-1), log_p.argmax(-1))


def test_one_hot_samples_follow_the_probabilities_of_each_variable():
    row = torch.randn(1, sum(SIZES))
    q = Categoricals.from_parameters(row.expand(40_000, -1), SIZES)
    draw = q.one_hot_sample()
    assert is_one_hot(draw, SIZES)
    for part, parameters in zip(draw.split(SIZES, -1), row.split(SIZES, -1), strict=True):
        assert_frequencies(part.sum(0), parameters.softmax(-1)[0])


def test_log_probability_of_one_hot_categories_is_that_of_torch_distributions():
    q = categoricals()
    c = q.one_hot_sample()
    found = q.log_probability(c)
    assert found.shape == (5, len(SIZES))
    parts = zip(c.split(SIZES, -1), q.log_probabilities, strict=True)
    expected = [Categorical(logits=log_p).log_prob(part.argmax(-1)) for part, log_p in parts]
    torch.testing.assert_close(found, torch.stack(expected, -1))


def test_variables_are_drawn_independently():
    q = Categoricals.from_parameters(torch.zeros(40_000, 4), (2, 2))
    for draw in (q.sample(0.1).round(), q.one_hot_sample()):
        assert_frequencies((draw[:, 0] * 2 + draw[:, 2]).long().bincount(), torch.full((4,), 0.25))


def test_categorical_prior_samples_are_one_hot_and_uniform():
    draw = Categoricals.from_parameters(torch.randn(40_000, sum(SIZES)), SIZES).prior_sample()
    assert is_one_hot(draw, SIZES)
    for part, size in zip(draw.split(SIZES, -1), SIZES, strict=True):
        assert_frequencies(part.sum(0), torch.full((size,), 1 / size))


# A learnt prior


def with_prior(rows: int = 5) -> tuple[Categoricals, torch.Tensor, torch.Tensor]:
    """Return q with a prior, and the logits of both."""
    torch.manual_seed(3)
    logits, prior = torch.randn(1, sum(SIZES)), torch.randn(1, sum(SIZES))
    logits, prior = logits.expand(rows, -1), prior.expand(rows, -1)
    return Categoricals.from_parameters(logits, SIZES, prior), logits, prior


def test_the_kl_to_a_learnt_prior_is_that_of_torch_distributions():
    q, logits, prior = with_prior()
    pairs = zip(logits.split(SIZES, -1), prior.split(SIZES, -1), strict=True)
    expected = [kl_divergence(Categorical(logits=a), Categorical(logits=b)) for a, b in pairs]
    torch.testing.assert_close(q.kl(), torch.stack(expected, -1))


def test_the_kl_to_a_learnt_prior_by_hand():
    q, p = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert Categoricals((q,), (p,)).kl().item() == pytest.approx(expected, abs=1e-6)
    assert Categoricals((p,), (q,)).kl().item() == pytest.approx(0.5 * math.log(4 / 3), abs=1e-6)
    assert Categoricals((q,), (q,)).kl().item() == pytest.approx(0, abs=1e-7)


def test_a_uniform_learnt_prior_is_the_default_prior():
    logits = torch.randn(5, sum(SIZES))
    learnt = Categoricals.from_parameters(logits, SIZES, torch.zeros_like(logits))
    fixed = Categoricals.from_parameters(logits, SIZES)
    torch.testing.assert_close(learnt.kl(), fixed.kl())
    c = fixed.one_hot_sample()
    torch.testing.assert_close(learnt.prior_log_probability(c), fixed.prior_log_probability(c))


def test_samples_of_a_learnt_prior_follow_it_and_have_its_probability():
    q, _, prior = with_prior(40_000)
    draw = q.prior_sample()
    assert is_one_hot(draw, SIZES)
    parts = list(zip(draw.split(SIZES, -1), prior.split(SIZES, -1), strict=True))
    for part, logits in parts:
        assert_frequencies(part.sum(0), logits[0].softmax(-1))
    expected = [Categorical(logits=logits).log_prob(part.argmax(-1)) for part, logits in parts]
    torch.testing.assert_close(q.prior_log_probability(draw), torch.stack(expected, -1))


def test_the_kl_trains_the_posterior_and_the_loss_of_the_prior_the_prior():
    own, prior = (torch.randn(5, sum(SIZES), requires_grad=True) for _ in range(2))
    # The gradients are those of the KL of torch's own distributions.
    q, p = (
        [torch.distributions.Categorical(logits=part) for part in parameters.split(SIZES, -1)]
        for parameters in (own, prior)
    )
    kl = sum(torch.distributions.kl_divergence(*pair).sum() for pair in zip(q, p, strict=True))
    for_own, for_prior = torch.autograd.grad(kl, (own, prior))
    c = Categoricals.from_parameters(own, SIZES, prior)
    c.kl().sum().backward(retain_graph=True)
    assert prior.grad is None
    torch.testing.assert_close(own.grad, for_own)
    own.grad = None
    c.prior_loss().sum().backward()
    assert own.grad is None
    torch.testing.assert_close(prior.grad, for_prior)
    torch.testing.assert_close(c.prior_loss().sum(), kl)
    uniform = Categoricals.from_parameters(own, SIZES).prior_loss()
    assert torch.equal(uniform, torch.zeros(5, len(SIZES)))


def test_gradients_pass_through_the_relaxed_sample_and_the_kl():
    for function in (lambda q: (q.sample(0.67) * torch.arange(13)).sum(), lambda q: q.kl().sum()):
        parameters = torch.randn(5, sum(SIZES), requires_grad=True)
        function(Categoricals.from_parameters(parameters, SIZES)).backward()
        assert (parameters.grad != 0).all()


# Precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_parameters_are_computed_in_float32(dtype):
    parameters = (3 * torch.randn(64, 2 * 13)).to(dtype)
    z = DiagonalGaussian.from_parameters(parameters)
    c = Categoricals.from_parameters(parameters[:, :13], SIZES)
    for value in (z.sample(), z.mode(), z.kl(), c.sample(0.67), c.mode(), c.kl()):
        assert value.dtype == torch.float32
    # Not merely of that type: the values are those of the same numbers in float32.
    wide = Categoricals.from_parameters(parameters[:, :13].float(), SIZES)
    assert torch.equal(c.kl(), wide.kl())
    assert torch.equal(z.kl(), DiagonalGaussian.from_parameters(parameters.float()).kl())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_extreme_parameters_stay_finite(dtype):
    logits = torch.tensor([[6e4, -6e4, 0.0, 6e4]], dtype=dtype).expand(2000, -1)
    c = Categoricals.from_parameters(logits, (4,))
    z = DiagonalGaussian.from_parameters(logits)
    for value in (c.sample(0.1), c.mode(), c.one_hot_sample(), c.kl(), z.sample(), z.kl()):
        assert torch.isfinite(value).all()
    torch.testing.assert_close(c.kl(), torch.full((2000, 1), math.log(2)))


def test_autocast_does_not_lower_the_precision():
    parameters = torch.randn(8, 26)
    with torch.autocast("cpu", torch.bfloat16):
        z = DiagonalGaussian.from_parameters(parameters)
        c = Categoricals.from_parameters(parameters[:, :13], SIZES)
        values = (z.sample(), z.kl(), c.sample(0.67), c.kl())
    assert {v.dtype for v in values} == {torch.float32}
    assert torch.equal(values[3], Categoricals.from_parameters(parameters[:, :13], SIZES).kl())
