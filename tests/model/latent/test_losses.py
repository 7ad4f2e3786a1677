import pytest
import torch

from multispace.model.latent.losses import batch_kl, capacity_penalty, free_bits


def test_batch_kl_sums_over_dimensions_and_averages_over_the_batch():
    assert batch_kl(torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 4.0]])).item() == 5


def test_free_bits_are_for_each_dimension_and_the_mean_of_a_batch():
    kl = torch.tensor([[0.0, 0.1, 3.0], [0.4, 0.1, 5.0]], requires_grad=True)  # means .2, .1, 4
    cost = free_bits(kl.mean(0), minimum=0.15)
    cost.backward()
    assert cost.item() == pytest.approx(0.2 + 0.15 + 4)
    assert torch.equal(kl.grad, torch.tensor([[0.5, 0.0, 0.5], [0.5, 0.0, 0.5]]))


def test_rows_of_0_and_twice_the_target_cost_nothing_together():
    kl = torch.tensor([[0.0, 0.0], [4.0, 6.0]])  # 0 and 2 C nats
    assert capacity_penalty(batch_kl(kl), target=5.0, weight=30.0).item() == 0
    apart = sum(capacity_penalty(batch_kl(row[None]), 5.0, 30.0).item() for row in kl)
    assert apart == 300


@pytest.mark.parametrize(("kl", "penalty", "gradient"), [(3, 4, -2), (8, 6, 2)])
def test_a_channel_is_drawn_to_its_target_from_both_sides(kl, penalty, gradient):
    kl = torch.tensor(float(kl), requires_grad=True)
    cost = capacity_penalty(kl, target=5.0, weight=2.0)
    cost.backward()
    assert cost.item() == penalty
    assert kl.grad.item() == gradient
