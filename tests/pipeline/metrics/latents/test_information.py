import math

import pytest
import torch

from multispace.model.latent.distributions import Categoricals, DiagonalGaussian
from multispace.pipeline.metrics.latents.information import (
    categorical_information,
    gaussian_information,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def certain(categories: list[int], size: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(categories), size).float().log()


def test_a_category_for_each_kind_of_image_tells_all():
    found = categorical_information(certain([0, 1, 2, 3] * 5, 4))
    assert found.mutual_information == pytest.approx(math.log(4))
    assert found.aggregate_kl == pytest.approx(0, abs=1e-12)
    assert found.kl == pytest.approx(math.log(4))


def test_one_category_for_all_tells_nothing():
    found = categorical_information(certain([2] * 7, 4))
    assert found.mutual_information == pytest.approx(0, abs=1e-12)
    assert found.aggregate_kl == pytest.approx(math.log(4))


def test_the_parts_of_a_categorical_kl_add_up():
    logits = 2 * torch.randn(50, 9)
    q = Categoricals.from_parameters(logits, (9,))
    found = categorical_information(q.log_probabilities[0])
    assert found.sum == pytest.approx(found.kl, abs=1e-12)
    assert found.kl == pytest.approx(q.kl().mean().item(), abs=1e-5)
    assert 0 < found.mutual_information < found.kl


def test_the_parts_of_a_kl_to_a_learnt_prior_add_up():
    logits, prior = 2 * torch.randn(2, 50, 9)
    q = Categoricals.from_parameters(logits, (9,), prior)
    found = categorical_information(q.log_probabilities[0], q.log_prior[0])
    assert found.sum == pytest.approx(found.kl, abs=1e-12)
    assert found.kl == pytest.approx(q.kl().mean().item(), abs=1e-5)
    plain = categorical_information(q.log_probabilities[0])
    assert found.mutual_information == pytest.approx(plain.mutual_information)


def test_a_prior_that_knows_the_category_predicts_all_of_it():
    # 4 kinds of image with a category each; the prior knows it, and so the KL is 0.
    q = (1e-12 + certain([0, 1, 2, 3] * 5, 4).exp()).log().log_softmax(-1)
    found = categorical_information(q, q)
    assert found.kl == pytest.approx(0, abs=1e-9)
    assert found.mutual_information == pytest.approx(math.log(4), abs=1e-6)
    assert found.predicted == pytest.approx(math.log(4), abs=1e-6)
    assert found.aggregate_kl == pytest.approx(0, abs=1e-9)


def test_a_prior_that_is_the_same_for_all_images_predicts_nothing():
    q = Categoricals.from_parameters(2 * torch.randn(50, 4), (4,)).log_probabilities[0]
    p = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log().expand(50, 4)
    found = categorical_information(q, p)
    assert found.predicted == pytest.approx(0, abs=1e-6)
    mean = q.double().exp().mean(0)
    expected = (mean * (mean.log() - p[0])).sum().item()
    assert found.aggregate_kl == pytest.approx(expected, abs=1e-6)


def test_equal_gaussians_tell_nothing():
    q = DiagonalGaussian(torch.full((40, 3), 0.7), torch.full((40, 3), -1.0))
    found = gaussian_information(q, draws=500)
    assert found.mutual_information == pytest.approx(0, abs=1e-9)  # whatever is drawn
    assert found.aggregate_kl == pytest.approx(found.kl, abs=0.05)
    assert found.kl == pytest.approx(q.kl().sum(-1).mean().item(), abs=1e-5)


def test_gaussians_far_apart_tell_log_n():
    q = DiagonalGaussian(100.0 * torch.arange(16)[:, None], torch.zeros(16, 1))
    found = gaussian_information(q, draws=20)
    assert found.mutual_information == pytest.approx(math.log(16), abs=1e-9)


def test_gaussian_information_of_a_mixture_by_quadrature():
    mean, std = torch.tensor([-1.0, 1.0], dtype=torch.float64), 0.8
    q = DiagonalGaussian(mean.repeat(100)[:, None], torch.full((200, 1), 2 * math.log(std)))
    found = gaussian_information(q, draws=200)
    # I = h(mixture) - h(one), both by the trapezoid rule.
    x = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    density = torch.stack([torch.distributions.Normal(m, std).log_prob(x).exp() for m in mean])
    entropy = torch.trapezoid(torch.special.entr(density.mean(0)), x)
    one = 0.5 * math.log(2 * math.pi * math.e * std**2)
    assert found.mutual_information == pytest.approx(entropy.item() - one, abs=0.02)
    assert found.sum == pytest.approx(found.kl, abs=0.03)


def test_many_images_are_gone_through_in_parts(monkeypatch):
    q = DiagonalGaussian(torch.randn(30, 4), 0.3 * torch.randn(30, 4))
    torch.manual_seed(1)
    whole = gaussian_information(q, draws=2)
    monkeypatch.setattr("multispace.pipeline.metrics.latents.information.ROWS", 7)
    torch.manual_seed(1)
    parts = gaussian_information(q, draws=2)
    assert parts.sum == pytest.approx(whole.sum, abs=1e-9)
    assert parts.mutual_information == pytest.approx(whole.mutual_information, abs=1e-9)
