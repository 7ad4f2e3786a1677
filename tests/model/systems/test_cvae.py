import math

import pytest
import torch

from multispace.model.encoder import Words
from multispace.model.options import SystemOptions
from multispace.model.systems import build
from multispace.model.systems.ag_cvae import AGCVAE

FEATURES, WORDS, Z, E = 6, 12, 7, 4
NAMES = ("cvae", "ag-cvae")
CLUSTER = torch.tensor([-1, -1, -1, -1, 0, 0, 1, 2, -1, -1, -1, -1])  # 4 and 5 are one noun


def make(system: str, **values: object):
    torch.manual_seed(0)
    options = {"embedding": E, "hidden": 5, "z_size": Z, **values}
    if system == "ag-cvae":
        options = {"clusters": 3, **options}
    made = build(SystemOptions(system=system, words=WORDS, feature_size=FEATURES, **options))
    if isinstance(made, AGCVAE):
        made.set_clusters(CLUSTER)
    return made


@pytest.fixture
def features():
    return torch.randn(3, FEATURES, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def words():
    """The captions "4 6 8", "5 9" and "": nouns 0 and 1, noun 0, none."""
    return Words(torch.tensor([1, 1, 1, 4, 5, 6, 9, 8]), (3, 2, 2, 1))


@pytest.mark.parametrize("name", NAMES)
def test_the_posterior_reads_image_and_caption(name, features, words):
    system = make(name)
    z = system.posterior(features, words).z
    other = Words(words.inputs.clone(), words.batch_sizes)
    other.inputs[4] = 7  # a word of the second caption
    changed = (system.posterior(features, other).z.mean != z.mean).any(-1)
    assert changed.tolist() == [False, True, False]
    moved = features + torch.tensor([[0.0], [0.0], [1.0]])
    changed = (system.posterior(moved, words).z.mean != z.mean).any(-1)
    assert changed.tolist() == [False, False, True]


@pytest.mark.parametrize("name", NAMES)
def test_in_use_z_comes_from_the_prior_and_the_image_is_read(name, features):
    system = make(name, sample_deviation=1.5)
    believed = system.posterior(features)
    assert torch.equal(believed.z.mean, torch.zeros(3, Z))
    mode = system.condition(features)
    torch.testing.assert_close(mode[:, Z:], system.embed(system.standardise(features)))
    rows = features[:1].expand(20_000, -1)
    draws = system.condition(rows, "sample")[:, :Z]
    assert ((draws.mean(0) - mode[0, :Z]).abs() < 5 * 1.5 / math.sqrt(20_000)).all()
    expected = 1.5 * (0.1 if name == "ag-cvae" else 1.0)
    assert draws.std(0).mean().item() == pytest.approx(expected, rel=0.02)


def test_the_prior_of_ag_cvae_lies_where_its_nouns_do(features):
    system = make("ag-cvae")
    torch.testing.assert_close(system.places.norm(dim=-1), torch.ones(3))
    share = system.nouns(system.standardise(features)).softmax(-1)
    expected = sum(share[:, k, None] * system.places[k] for k in range(3))
    torch.testing.assert_close(system.condition(features)[:, :Z], expected)
    assert not system.posterior(features).center.requires_grad


def test_nouns_are_learnt_from_the_captions_that_name_them(features, words):
    system = make("ag-cvae")
    found = system.nouns(system.standardise(features)).log_softmax(-1)
    expected = -((found[0, 0] + found[0, 1]) / 2 + found[1, 0]) / 3
    loss = system.auxiliary_loss(features, words, system.posterior(features, words))
    torch.testing.assert_close(loss, expected)
    targets = torch.zeros_like(words.inputs)
    terms = system.loss(features, words.inputs, targets, words.batch_sizes, 0)
    paid = terms.reconstruction + system.penalty(terms.kl_z, terms.kl_c, 0)
    torch.testing.assert_close(terms.total, paid + expected)


def test_what_the_prior_is_made_of_travels_with_the_weights(features):
    system, other = make("ag-cvae"), make("ag-cvae")
    other.places.zero_()
    other.set_clusters(torch.full((WORDS,), -1))
    other.load_state_dict(system.state_dict())
    assert torch.equal(other.cluster, CLUSTER)
    assert torch.equal(other.condition(features), system.condition(features))
