import numpy as np
import pytest
import torch
from support.options import used_by
from support.random_system import random_system

from multispace.errors import OptionError
from multispace.model.options import SystemOptions, check_single_caption
from multispace.pipeline.inference.decoding import (
    caption_conditions,
    caption_features,
    hypotheses,
)
from multispace.pipeline.inference.samples import Sampling, caption_samples
from multispace.pipeline.inference.single_captions import (
    CANDIDATES,
    EVIDENCE,
    EVIDENCE_TEMPERATURE,
    HYPOTHESES,
    caption_categories,
    decoded_latents,
    single_captions,
)
from multispace.pipeline.metrics.samples.consensus import consensus, reranked

TRAINING = [["a b"], ["b c"], ["c d"], ["d a"]]
GREEDY = Sampling(count=0)


def ways(model, vocabulary, features, way, sampling=GREEDY, **other):
    return single_captions(model, features, vocabulary, way, sampling, lambda: TRAINING, **other)


@pytest.mark.parametrize("system", ["base", "latent", "multispace", "joint"])
def test_the_mode_is_what_captions_were(system):
    model, vocabulary, features = random_system(system)
    expected = caption_features(model, features, vocabulary)
    assert ways(model, vocabulary, features, "mode") == expected


def test_left_out_sets_the_latents_to_zero():
    model, vocabulary, features = random_system("joint")
    found = ways(model, vocabulary, features, "left-out")
    posterior = model.posterior(features)
    latents = posterior.latents()
    latents[:, 3:] = 0  # c; z stays in `joint`
    assert found == caption_conditions(model, posterior.condition(latents), vocabulary)
    assert found != ways(model, vocabulary, features, "mode")


def test_a_consensus_is_one_of_the_samples():
    model, vocabulary, features = random_system("multispace")
    sampling = Sampling(count=3, seed=1)
    samples = caption_samples(model, features, vocabulary, sampling)
    places = consensus(samples, TRAINING)
    expected = [texts[place] for texts, place in zip(samples, places, strict=True)]
    assert ways(model, vocabulary, features, "consensus", sampling) == expected
    assert ways(model, vocabulary, features, "consensus", samples=samples) == expected
    many = caption_samples(model, features, vocabulary, Sampling(count=CANDIDATES))
    chosen = ways(model, vocabulary, features, "consensus")
    assert all(text in texts for text, texts in zip(chosen, many, strict=True))


@pytest.mark.parametrize(
    ("system", "latents", "temperature"),
    [("joint", "left-out", 0.0), ("latent", "mode", 0.0), ("base", "mode", EVIDENCE_TEMPERATURE)],
)
def test_a_reranked_caption_is_the_one_of_a_wide_beam_that_is_most_like_samples(
    system, latents, temperature
):
    model, vocabulary, features = random_system(system)
    wide = {"width": 2 * HYPOTHESES, "latents": latents}
    many = hypotheses(model, features, vocabulary, **wide)
    drawn = Sampling(EVIDENCE, seed=3, temperature=temperature)
    places = reranked(many, caption_samples(model, features, vocabulary, drawn))
    expected = [texts[place] for texts, place in zip(many, places, strict=True)]
    found = ways(model, vocabulary, features, "reranked", Sampling(0, seed=3, width=2))
    assert found == expected
    assert any(places)  # not always the most probable one
    # The samples that a command is asked for, and their options, do not matter.
    others = Sampling(7, seed=3, width=2, temperature=1.0)
    assert ways(model, vocabulary, features, "reranked", others) == expected


@pytest.mark.parametrize(
    ("options", "way", "latents"),
    [
        ({}, "reranked", "left-out"),
        ({"latent_dropout": 0.0}, "reranked", "mode"),
        ({}, "left-out", "left-out"),
        ({}, "mode", "mode"),
        ({}, "consensus", "mode"),
    ],
)
def test_what_captions_are_decoded_from(options, way, latents):
    model, _, _ = random_system("joint", **options)
    assert decoded_latents(model.options, way) == latents


@pytest.mark.parametrize(("system", "latents"), [("joint", "left-out"), ("multispace", "mode")])
def test_greedy_search_leaves_nothing_to_rerank(system, latents):
    model, vocabulary, features = random_system(system)
    expected = caption_features(model, features, vocabulary, latents=latents)
    assert ways(model, vocabulary, features, "reranked") == expected


@pytest.mark.parametrize("system", ["multispace", "joint", "joint-cvae"])
def test_categories_are_decoded_one_by_one(system):
    model, vocabulary, features = random_system(system)
    captions, probabilities = caption_categories(model, features, vocabulary)
    posterior = model.posterior(features)
    assert np.array(probabilities).sum(1) == pytest.approx(np.ones(5))
    assert np.array(probabilities) == pytest.approx(
        posterior.c.log_probabilities[0].exp().detach().numpy(), abs=1e-6
    )
    for category in range(4):
        latents = torch.cat([posterior.z.mean, torch.eye(4)[category].expand(5, -1)], 1)
        expected = caption_conditions(model, posterior.condition(latents), vocabulary)
        assert [texts[category] for texts in captions] == expected
    assert any(len(set(texts)) > 1 for texts in captions)
    places = consensus(captions, TRAINING, probabilities)
    expected = [texts[place] for texts, place in zip(captions, places, strict=True)]
    assert ways(model, vocabulary, features, "categories") == expected


def test_of_two_categories_the_caption_of_the_more_probable_one_is_chosen(monkeypatch):
    model, vocabulary, features = random_system("joint", categories=(2,))
    pair = ["a b c d", "e f g h"]  # nothing in common: only the probabilities decide
    weights = [np.array(p) for p in ([0.7, 0.3], [0.2, 0.8], [0.5, 0.5])]
    monkeypatch.setattr(
        "multispace.pipeline.inference.single_captions.caption_categories",
        lambda *_, **__: ([pair] * len(weights), weights),
    )
    found = ways(model, vocabulary, features[: len(weights)], "categories")
    assert found == [pair[0], pair[1], pair[0]]  # a tie goes to the first


@pytest.mark.parametrize(
    ("system", "options", "way", "message"),
    [
        ("base", {}, "left-out", "base is trained without latent dropout"),
        ("multispace", {}, "left-out", "multispace is trained without latent dropout"),
        ("joint", {"latent_dropout": 0.0}, "left-out", "joint is trained without latent dropout"),
        ("latent", {}, "categories", "one categorical latent of at most 256"),
        ("joint", {"categories": (4, 4)}, "categories", "one categorical latent of at most 256"),
        ("joint", {"categories": (257,)}, "categories", "one categorical latent of at most 256"),
    ],
)
def test_a_way_that_the_system_lacks_is_refused(system, options, way, message):
    known = used_by(system, **{"categories": (4,), **options})
    with pytest.raises(OptionError, match=f"--single-caption {way}: .*{message}"):
        check_single_caption(SystemOptions(system=system, words=9, feature_size=5, **known), way)
    if system != "base":
        with pytest.raises(OptionError, match=message):
            SystemOptions(system=system, words=9, feature_size=5, single_caption=way, **known)


def test_a_consensus_of_base_needs_a_temperature():
    model, vocabulary, features = random_system("base")
    with pytest.raises(OptionError, match="sample its words with a temperature"):
        ways(model, vocabulary, features, "consensus")
    assert len(ways(model, vocabulary, features, "consensus", Sampling(3, temperature=1.0))) == 5
