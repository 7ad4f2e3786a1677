import math

import pytest
import torch

from model.objective import batch_kl, capacity_penalty, reconstruction


def test_reconstruction_sums_over_tokens_and_averages_over_captions():
    generator = torch.Generator().manual_seed(0)
    lengths, words = [5, 3, 1], 7
    logits = torch.randn(sum(lengths), words, generator=generator)
    targets = torch.randint(words, (sum(lengths),), generator=generator)
    nats = 0.0
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        nats -= row[target] - math.log(sum(math.exp(value) for value in row))
    loss = reconstruction(logits, targets, captions=len(lengths))
    assert loss.item() == pytest.approx(nats / 3, rel=1e-6)


def test_uniform_predictions_cost_log_words_a_token():
    loss = reconstruction(torch.zeros(12, 50), torch.arange(12), captions=2)
    assert loss.item() == pytest.approx(6 * math.log(50), rel=1e-6)


def test_reconstruction_is_summed_in_float32():
    logits = torch.randn(4000, 9, generator=torch.Generator().manual_seed(0)).bfloat16()
    targets = torch.zeros(4000, dtype=torch.int64)
    loss = reconstruction(logits, targets, captions=1)
    assert loss.dtype == torch.float32
    exact = -logits.double().log_softmax(-1)[:, 0].sum()
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)


def test_batch_kl_sums_over_dimensions_and_averages_over_the_batch():
    assert batch_kl(torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 4.0]])).item() == 5


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
