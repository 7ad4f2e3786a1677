import numpy as np
import pytest
import torch
from support import rows
from support.planted import Planted, Speaker, one_word_pairs
from torch.nn import functional as F

from multispace.data.batches import load_pairs
from multispace.model.latent.distributions import Categoricals, DiagonalGaussian
from multispace.model.latent.posterior import Posterior
from multispace.model.options import SystemOptions
from multispace.model.systems import build
from multispace.pipeline.metrics.latents import likelihood
from multispace.pipeline.metrics.latents.likelihood import (
    caption_nll,
    choose_captions,
    importance_weighted_nll,
    log_weights,
    mean_nll,
    split_likelihood,
)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return one_word_pairs(tmp_path_factory.mktemp("planted") / "cache")


def test_nll_of_packed_captions_is_that_of_each_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(likelihood, "ROWS", 4)
    torch.manual_seed(0)
    cache = rows.make_cache(tmp_path / "cache")
    pairs = load_pairs(cache, "train")
    system = build(
        SystemOptions(system="latent", words=len(cache.vocabulary()), feature_size=6,
                      embedding=4, hidden=5, z_size=3)
    ).eval()  # fmt: skip
    order = np.argsort(-pairs.lengths, kind="stable")
    condition = torch.randn(len(pairs), 3)
    together = caption_nll(system.decoder, condition, pairs.batch(order))
    for place, number in enumerate(order):
        alone = pairs.batch(np.array([number]))
        logits = system.decoder(condition[place : place + 1], alone.inputs, alone.batch_sizes)
        expected = F.cross_entropy(logits, alone.targets, reduction="sum")
        assert together[place].item() == pytest.approx(expected.item(), rel=1e-5)
    conditions = torch.randn(len(pairs.features), 3)
    nll = caption_nll(system.decoder, conditions[pairs.rows[order]], pairs.batch(order))
    monkeypatch.setattr(likelihood, "BATCH", 4)
    found = mean_nll(system, pairs, {"one": conditions}, limit=1000)
    assert found["one"] == pytest.approx(nll.mean().item(), rel=1e-5)


def test_captions_are_chosen_evenly_and_once(tmp_path):
    pairs = load_pairs(rows.make_cache(tmp_path / "cache"), "train")
    assert np.concatenate(choose_captions(pairs, 3)).tolist() == [2, 0, 4]  # of 7, 3 and 1 words
    every = np.concatenate(choose_captions(pairs, 1000))
    assert sorted(every) == list(range(6))
    assert (np.diff(pairs.lengths[every]) <= 0).all()


def word_log_probabilities(decoder: Speaker) -> torch.Tensor:
    """Return those of each category, (K, V); the decoder reads a category times sqrt(K)."""
    weight = decoder.output_weight.T
    return (len(weight) ** 0.5 * weight).log_softmax(-1)


def exact_nll(decoder: Speaker, targets: torch.Tensor) -> torch.Tensor:
    """Return -log 1/K sum_k p(caption | category k), for captions (B, T)."""
    log_p = word_log_probabilities(decoder)
    captions = log_p[:, targets].sum(-1)  # (K, B)
    return np.log(len(log_p)) - captions.logsumexp(0)


def test_weights_are_exact_where_the_proposal_is_the_posterior(planted):
    pairs, vocabulary = planted
    decoder = Planted(vocabulary, has="c").decoder
    batch = pairs.batch(np.arange(5))
    targets = torch.stack(batch.targets.split(5), dim=1)
    log_joint = word_log_probabilities(decoder)[:, targets].sum(-1).T  # (B, K)
    best = Posterior(c=Categoricals.from_parameters(log_joint, (5,)))
    for samples in (1, 4):
        found = importance_weighted_nll(log_weights(decoder, best, batch, samples))
        torch.testing.assert_close(found, exact_nll(decoder, targets))


def test_weights_take_the_learnt_prior(planted):
    pairs, vocabulary = planted
    decoder = Planted(vocabulary, has="c").decoder
    batch = pairs.batch(np.arange(5))
    targets = torch.stack(batch.targets.split(5), dim=1)
    log_p = word_log_probabilities(decoder)[:, targets].sum(-1).T  # (B, K)
    torch.manual_seed(0)
    prior = torch.randn(5, 5).log_softmax(-1)
    exact = -(prior + log_p).logsumexp(-1)  # of sum_k p(k | v) p(caption | k)
    best = Posterior(c=Categoricals.from_parameters(prior + log_p, (5,), prior))
    found = importance_weighted_nll(log_weights(decoder, best, batch, 3))
    torch.testing.assert_close(found, exact)


def test_more_draws_bound_more_tightly_and_reach_the_exact_value(planted):
    pairs, vocabulary = planted
    torch.manual_seed(0)
    decoder = Planted(vocabulary, has="c").decoder
    batch = pairs.batch(np.arange(5))
    targets = torch.stack(batch.targets.split(5), dim=1)
    q = Posterior(c=Categoricals.from_parameters(torch.randn(5, 5), (5,)))
    weights = log_weights(decoder, q, batch, 1000)
    bounds = []
    for samples in (1, 10, 1000):  # the same draws, in groups
        groups = weights.view(-1, samples, 5)
        bounds.append(np.mean([importance_weighted_nll(g).mean().item() for g in groups]))
    assert bounds[0] > bounds[1] > bounds[2]
    assert bounds[2] == pytest.approx(exact_nll(decoder, targets).mean().item(), abs=0.1)


def test_a_gaussian_that_nothing_hears_weighs_one(planted):
    pairs, vocabulary = planted
    torch.manual_seed(0)
    decoder = Planted(vocabulary, has="z", heard="").decoder
    batch = pairs.batch(np.arange(5))
    exact = 2 * np.log(len(vocabulary))  # a word and EOS, all words alike
    q = DiagonalGaussian(torch.full((5, 5), 0.2), torch.full((5, 5), 0.3))
    weights = log_weights(decoder, Posterior(z=q), batch, 2000)
    assert importance_weighted_nll(weights).mean().item() == pytest.approx(exact, abs=0.03)
    # One draw gives reconstruction + KL.
    single = exact + q.kl().sum(-1).mean().item()
    assert -weights.mean().item() == pytest.approx(single, abs=0.03)


def test_split_likelihood_covers_every_caption(planted):
    pairs, vocabulary = planted
    torch.manual_seed(0)
    found = split_likelihood(Planted(vocabulary), pairs, samples=8, limit=1000)
    assert (found["samples"], found["captions"]) == (8, 5)
    assert found["nll"] < found["elbo"]
    assert split_likelihood(Planted(vocabulary), pairs, samples=1, limit=3)["captions"] == 3
