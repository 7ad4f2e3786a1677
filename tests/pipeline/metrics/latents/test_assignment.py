from types import SimpleNamespace

import pytest
import torch
from support.options import used_by
from support.rows import append, put_text

from multispace.data.batches import load_pairs
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.model.encoder import Words
from multispace.model.latent.distributions import Categoricals
from multispace.model.latent.posterior import Posterior
from multispace.model.options import SystemOptions
from multispace.model.systems import build
from multispace.pipeline.metrics.latents import likelihood
from multispace.pipeline.metrics.latents.assignment import assign

CAPTIONS = {"1.jpg": ("a b", "a"), "2.jpg": ("a b a b", "b", "b b"), "3.jpg": ("b", "a b a")}


@pytest.fixture
def pairs(tmp_path):
    with write_cache(tmp_path / "cache") as writer:
        put_text(writer, {"train": CAPTIONS})
        append(writer, list(CAPTIONS))
    return load_pairs(Cache.open(tmp_path / "cache"), "train")


def make(system: str, **other):
    torch.manual_seed(0)
    sizes = {"embedding": 4, "hidden": 5, "z_size": 3, "words": 8, **other}
    return build(SystemOptions(system=system, feature_size=6, **used_by(system, **sizes))).eval()


@pytest.mark.parametrize("name", ["joint", "joint-cvae"])
@pytest.mark.parametrize("batch", [2, 512])
def test_captions_that_the_posterior_reads_have_their_own_category(pairs, name, batch, monkeypatch):
    monkeypatch.setattr(likelihood, "BATCH", batch)
    system = make(name, categories=(4, 3))
    found = assign(system, pairs, 100)
    assert (found.of_captions, found.sizes) == (True, (4, 3))
    assert found.captions.tolist() == found.first.tolist() == list(range(7))
    assert found.units.tolist() == list(range(7))
    assert found.categories.shape == (7, 2)
    for number in range(7):
        alone = pairs.batch(found.captions[number : number + 1])
        c = system.posterior(alone.features, Words(alone.inputs, alone.batch_sizes)).c
        expected = [log_p[0].argmax().item() for log_p in c.log_probabilities]
        assert found.categories[number].tolist() == expected


def test_images_have_the_category_of_all_their_captions(pairs):
    def posterior(features):
        return Posterior(c=Categoricals.from_parameters(torch.eye(3)[[2, 0, 2]], (3,)))

    system = SimpleNamespace(reads_captions=False, feature_mean=torch.zeros(6), posterior=posterior)
    found = assign(system, pairs, 100)
    assert not found.of_captions
    assert found.categories.tolist() == [[2], [0], [2]]
    assert found.units.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert found.first.tolist() == [0, 2, 5]


def test_at_most_so_many_captions_evenly_spaced(pairs):
    assert assign(make("joint", categories=(4,)), pairs, 3).captions.tolist() == [0, 2, 4]
    found = assign(make("multispace", categories=(4,)), pairs, 3)
    assert found.captions.tolist() == [0, 2, 4]
    assert len(found.categories) == 3  # all images


@pytest.mark.parametrize("name", ["base", "latent", "cvae"])
def test_a_system_without_c_assigns_nothing(pairs, name):
    assert assign(make(name), pairs, 100) is None
