from dataclasses import replace

import pytest
import torch
from support.random_system import random_system

from multispace.errors import OptionError
from multispace.pipeline.inference.decoding import caption_features
from multispace.pipeline.inference.samples import Sampling, caption_samples, captions_by_temperature
from multispace.pipeline.runs.run_folder import load_run

WORDS = Sampling(count=4, seed=3, temperature=1.5)


@pytest.fixture(params=["tiny_base_run", "tiny_run"])
def run(request):
    return load_run(request.getfixturevalue(request.param), torch.device("cpu"))


def vectors(run, count: int) -> torch.Tensor:
    """Return features near those of the training."""
    noise = torch.randn(
        count, run.system.options.feature_size, generator=torch.Generator().manual_seed(0)
    )
    return run.system.feature_mean + noise * run.system.feature_deviation


def sampled(run, features, sampling=WORDS):
    return caption_samples(run.system, features, run.vocabulary, sampling)


def test_samples_differ_and_come_from_the_seed(run):
    features = vectors(run, 6)
    found = sampled(run, features)
    assert [len(texts) for texts in found] == [4] * 6
    assert len({text for texts in found for text in texts}) > 6
    torch.manual_seed(99)  # PyTorch's own generator plays no part
    assert sampled(run, features) == found
    assert sampled(run, features, replace(WORDS, seed=4)) != found


def test_samples_do_not_depend_on_the_batch(run, monkeypatch):
    features = vectors(run, 6)
    found = sampled(run, features)
    assert [sampled(run, features[row : row + 1])[0] for row in range(6)] == found
    assert sampled(run, features.flip(0)) == found[::-1]
    monkeypatch.setattr("multispace.pipeline.inference.decoding.ROWS", 5)
    assert sampled(run, features) == found


def test_latent_samples_do_not_depend_on_the_batch(tiny_run):
    run = load_run(tiny_run, torch.device("cpu"))
    features, sampling = vectors(run, 6) * 3, Sampling(count=5, width=2)
    found = sampled(run, features, sampling)
    assert [sampled(run, features[row : row + 1], sampling)[0] for row in range(6)] == found
    assert any(len(set(texts)) > 1 for texts in found)


def test_a_low_temperature_is_greedy_search(tiny_base_run):
    run = load_run(tiny_base_run, torch.device("cpu"))
    features = vectors(run, 6)
    greedy = caption_features(run.system, features, run.vocabulary)
    for sampling in (
        replace(WORDS, temperature=1e-3),
        replace(WORDS, temperature=1.0, top_p=1e-6),
    ):
        assert sampled(run, features, sampling) == [[text] * 4 for text in greedy]


def test_temperature_0_is_greedy_search_from_the_same_latents(tiny_run):
    run = load_run(tiny_run, torch.device("cpu"))
    features = vectors(run, 6)
    drawn = [replace(WORDS, temperature=temperature) for temperature in (0.0, 1e-4)]
    greedy, cold = (sampled(run, features, sampling) for sampling in drawn)
    assert greedy == cold
    assert any(len(set(texts)) > 1 for texts in greedy)


def test_samples_at_several_temperatures_are_those_at_each(run):
    features, temperatures = vectors(run, 5), (1.2, 0.6)
    found = captions_by_temperature(run.system, features, run.vocabulary, WORDS, temperatures)
    assert list(found) == [sampled(run, features, replace(WORDS, temperature=t))
                           for t in temperatures]  # fmt: skip
    none = captions_by_temperature(run.system, features, run.vocabulary, WORDS, ())
    assert list(none) == []


def test_every_temperature_of_base_is_above_0(tiny_base_run):
    run = load_run(tiny_base_run, torch.device("cpu"))
    drawn = captions_by_temperature(run.system, vectors(run, 2), run.vocabulary, WORDS, (0.5, 0.0))
    with pytest.raises(OptionError, match="base has no latent space to sample from"):
        next(drawn)


def test_base_needs_a_temperature(tiny_base_run):
    run = load_run(tiny_base_run, torch.device("cpu"))
    with pytest.raises(OptionError, match="base has no latent space to sample from; sample its"):
        sampled(run, vectors(run, 2), Sampling(count=2))


def test_no_images_have_no_samples(run):
    assert sampled(run, vectors(run, 0)) == []


def test_more_words_continue_the_fewer(tiny_base_run):
    run = load_run(tiny_base_run, torch.device("cpu"))
    features = vectors(run, 3)
    more = sampled(run, features, replace(WORDS, count=6))
    assert [texts[:4] for texts in more] == sampled(run, features)


def test_latents_near_temperature_0_are_their_mode(tiny_run):
    run = load_run(tiny_run, torch.device("cpu"))
    features = vectors(run, 6)
    mode = caption_features(run.system, features, run.vocabulary)
    cold = Sampling(count=3, latent_temperature=1e-4)
    assert sampled(run, features, cold) == [[text] * 3 for text in mode]
    assert any(len(set(texts)) > 1 for texts in sampled(run, features, Sampling(count=3)))


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_weak_guidance_gives_the_captions_without_latents(temperature):
    model, vocabulary, features = random_system("joint")
    asked = Sampling(count=4, width=2, temperature=temperature, seed=2)
    free = caption_samples(model, features, vocabulary, asked)
    # Leave out c and, by a narrow posterior, what is drawn of z.
    narrow = replace(asked, guidance=1e-6, latent_temperature=1e-6)
    found = caption_samples(model, features, vocabulary, narrow)
    assert found != free
    if not temperature:
        expected = caption_features(model, features, vocabulary, width=2, latents="left-out")
        assert found == [[text] * 4 for text in expected]
    same = [
        caption_samples(model, features[row : row + 1], vocabulary, narrow)[0] for row in range(5)
    ]
    assert same == found


@pytest.mark.parametrize(
    ("system", "options"), [("base", {}), ("multispace", {}), ("joint", {"latent_dropout": 0.0})]
)
def test_guidance_needs_latent_dropout(system, options):
    model, vocabulary, features = random_system(system, **options)
    asked = Sampling(count=2, temperature=0.5, guidance=0.8)
    with pytest.raises(OptionError, match=r"--guidance 0\.8: .* trained without latent dropout"):
        caption_samples(model, features, vocabulary, asked)
