import pytest
import torch
from support.planted import STRENGTH, WORDS, Planted, one_word_pairs

from multispace.model.latent.posterior import Posterior
from multispace.pipeline.metrics.latents.ablation import ablation, from_prior, shuffled


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return one_word_pairs(tmp_path_factory.mktemp("planted") / "cache")


@pytest.mark.parametrize("heard", ["", "z", "c"])
def test_shuffling_costs_what_the_decoder_heeds(planted, heard):
    pairs, vocabulary = planted
    lost = ablation(Planted(vocabulary, heard=heard), pairs)
    # The word loses its whole logit, and the normaliser stays as it was.
    expected = {name: STRENGTH * (name == heard) for name in "zc"}
    assert lost == pytest.approx({**expected, "both": STRENGTH * bool(heard)}, abs=1e-4)


def test_only_the_channels_that_are_there(planted):
    pairs, vocabulary = planted
    assert set(ablation(Planted(vocabulary, has="z"), pairs)) == {"z"}
    assert set(ablation(Planted(vocabulary, has="c"), pairs)) == {"c"}
    system = Planted(vocabulary)
    system.has = ""
    assert ablation(system, pairs) == {}


def test_few_captions_give_the_same_loss_and_the_generator_is_left_alone(planted):
    pairs, vocabulary = planted
    torch.manual_seed(3)
    before = torch.get_rng_state()
    lost = ablation(Planted(vocabulary), pairs, captions=2)
    assert lost["both"] == pytest.approx(2 * STRENGTH, abs=1e-4)  # z and c both name the word
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("seed", range(5))
def test_no_image_keeps_its_own_and_both_come_from_one(planted, seed):
    _, vocabulary = planted
    posterior = Planted(vocabulary).posterior(torch.eye(len(WORDS)))
    both = shuffled(posterior, seed)["both"]
    z, c = both.chunk(2, dim=1)
    assert torch.equal(z, (c > 0).float())
    assert z.diagonal().sum() == 0
    assert torch.equal(z.sum(0), torch.ones(len(WORDS)))


def test_prior_draws_have_the_priors_form(planted):
    _, vocabulary = planted
    posterior = Planted(vocabulary).posterior(torch.eye(len(WORDS)))
    conditions = from_prior(posterior)
    z, c = conditions["both"].chunk(2, dim=1)
    scale = len(WORDS) ** 0.5  # c is read times sqrt(K)
    torch.testing.assert_close(c.sum(1), torch.full((len(WORDS),), scale))
    torch.testing.assert_close(c.amax(1), torch.full((len(WORDS),), scale))
    assert torch.equal(conditions["z"], torch.cat((z, scale * torch.eye(len(WORDS))), 1))
    assert torch.equal(conditions["c"], torch.cat((torch.eye(len(WORDS)), c), 1))
    assert from_prior(Posterior(z=posterior.z))["z"].shape == (5, 5)
