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
