import math

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from multispace.errors import ModelError
from multispace.model.batch_partition import WHOLE
from multispace.model.encoder import Words
from multispace.model.latent.distributions import Categoricals
from multispace.model.options import SystemOptions
from multispace.model.systems import build

FEATURES, WORDS, Z, E, SIZES = 6, 12, 7, 4, (5, 3)
C = sum(SIZES)
NAMES = ("joint", "joint-cvae")
CAPTIONS = ((4, 6, 8), (5, 9), ())  # as packed in the fixture


def make(system: str, **values: object):
    torch.manual_seed(0)
    options = {"embedding": E, "hidden": 5, "z_size": Z, "categories": SIZES, **values}
    return build(SystemOptions(system=system, words=WORDS, feature_size=FEATURES, **options))


@pytest.fixture
def features():
    return torch.randn(3, FEATURES, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def words():
    return Words(torch.tensor([1, 1, 1, 4, 5, 6, 9, 8]), (3, 2, 2, 1))


def prior_logits(system, features):
    return system.categories.prior(system.standardise(features))


@pytest.mark.parametrize("name", NAMES)
def test_the_posterior_of_c_is_the_sum_over_the_words_of_the_caption(name, features, words):
    system = make(name)
    c = system.posterior(features, words).c
    table = system.categories.table.weight
    for row, caption in enumerate(CAPTIONS):
        logits = sum((table[word] for word in caption), torch.zeros(C))
        for log_q, part in zip(c.log_probabilities, logits.split(SIZES), strict=True):
            torch.testing.assert_close(log_q[row], part.log_softmax(-1))


@pytest.mark.parametrize("name", NAMES)
def test_captions_begin_as_cells_that_differ(name):
    system = make(name, categories=(128,))
    words = Words(torch.arange(10).clamp(min=1)[:, None].expand(10, 1).flatten(), (1,) * 10)
    assert system.categories.table.weight.std().item() == pytest.approx(1, rel=0.1)
    c = system.posterior(torch.zeros(1, FEATURES), words).c
    assert c.log_probabilities[0].exp().max() > 5 / 128


@pytest.mark.parametrize("name", NAMES)
def test_the_kl_of_c_is_the_one_to_the_prior_of_the_image(name, features, words):
    system = make(name)
    posterior = system.posterior(features, words)
    q = torch.cat(posterior.c.log_probabilities, -1).split(SIZES, -1)
    p = prior_logits(system, features).split(SIZES, -1)
    expected = sum(
        kl_divergence(Categorical(logits=a), Categorical(logits=b)).mean()
        for a, b in zip(q, p, strict=True)
    )
    torch.testing.assert_close(posterior.kl_c(), expected)
    torch.manual_seed(1)
    targets = torch.zeros_like(words.inputs)
    terms = system.loss(features, words.inputs, targets, words.batch_sizes, 0)
    torch.testing.assert_close(terms.kl_c, expected)
    distance = (terms.kl_c - system.options.capacity_c_max).abs()
    paid = (
        distance * system.options.gamma_c
        + (terms.kl_z - system.options.capacity_z_max).abs() * system.options.gamma_z
    )
    if system.options.capacity_c_max < math.log(math.prod(SIZES)):
        fit = system.auxiliary_loss(features, words, system.posterior(features, words))
        torch.testing.assert_close(terms.total, terms.reconstruction + paid + fit)


def test_z_of_joint_sees_the_image_alone(features, words):
    system = make("joint")
    read, unread = system.posterior(features, words).z, system.posterior(features).z
    assert torch.equal(read.mean, unread.mean)
    torch.testing.assert_close(read.mean, system.z_parameters(system.standardise(features))[:, :Z])


def test_z_of_joint_cvae_reads_the_caption_and_comes_from_its_prior_in_use(features, words):
    system = make("joint-cvae")
    other = Words(words.inputs.clone(), words.batch_sizes)
    other.inputs[4] = 7  # a word of the second caption
    z = system.posterior(features, words).z.mean
    changed = (system.posterior(features, other).z.mean != z).any(-1)
    assert changed.tolist() == [False, True, False]
    assert torch.equal(system.posterior(features).z.mean, torch.zeros(3, Z))


@pytest.mark.parametrize("name", NAMES)
def test_in_use_c_comes_from_the_prior_of_the_image(name, features):
    system = make(name)
    logits = prior_logits(system, features).split(SIZES, -1)
    c = system.condition(features)[:, Z : Z + C].split(SIZES, -1)
    for part, log_p in zip(c, logits, strict=True):
        assert torch.equal(part.argmax(-1), log_p.argmax(-1))
        torch.testing.assert_close(part.amax(-1), torch.full((3,), part.shape[-1] ** 0.5))
    rows = features[:1].expand(20_000, -1)
    with torch.no_grad():
        draws = (system.condition(rows, "sample")[:, Z : Z + C] > 0).float()
    p = torch.cat([part[0].softmax(-1) for part in logits])
    assert ((draws.mean(0) - p).abs() < 5 * (p * (1 - p) / 20_000).sqrt()).all()


def test_the_condition_left_out_keeps_z_in_joint_and_the_image_in_joint_cvae(features):
    system = make("joint")
    condition, without = system.condition(features), system.condition(features, "left-out")
    assert torch.equal(without[:, :Z], condition[:, :Z])
    assert torch.equal(without[:, Z:], torch.zeros(3, C))
    system = make("joint-cvae")
    without = system.condition(features, "left-out")
    assert torch.equal(without[:, : Z + C], torch.zeros(3, Z + C))
    torch.testing.assert_close(without[:, Z + C :], system.embed(system.standardise(features)))


@pytest.mark.parametrize(
    ("name", "values"), [("joint", {"latent_dropout": 0.0}), ("multispace", {})]
)
def test_latents_that_training_never_left_out_cannot_be(name, values, features):
    with pytest.raises(ModelError, match=f"{name} was trained without latent dropout"):
        make(name, **values).condition(features, "left-out")


@pytest.mark.parametrize(("name", "left_out"), [("joint", range(Z, Z + C)),
                                                ("joint-cvae", range(Z + C))])  # fmt: skip
def test_training_leaves_latents_out_for_a_fraction_of_the_captions(name, left_out):
    rows, rate = 4000, 0.3
    system = make(name, latent_dropout=rate)
    features = torch.randn(rows, FEATURES)
    words = Words(torch.tensor([1] * rows + [5] * rows), (rows, rows))

    def dropped() -> torch.Tensor:
        torch.manual_seed(1)
        latents = system.draw_condition(features, words, 0, WHOLE)[0][:, list(left_out)]
        zero = latents == 0
        assert torch.equal(zero.any(-1), zero.all(-1))
        return zero.all(-1)

    mean = dropped().float().mean().item()
    assert mean == pytest.approx(rate, abs=5 * math.sqrt(rate * (1 - rate) / rows))
    system.eval()
    assert not dropped().any()


def test_a_dropped_latent_costs_the_whole_kl(features, words):
    targets = torch.zeros_like(words.inputs)
    kls = []
    for rate in (0.0, 0.9):
        torch.manual_seed(1)
        system = make("joint", latent_dropout=rate)
        kls.append(system.loss(features, words.inputs, targets, words.batch_sizes, 0).kl_c)
    assert kls[0] == kls[1]


def nll(system, condition, inputs, targets, batch_sizes) -> float:
    logits = system.decoder(condition, inputs, batch_sizes)
    rows = torch.arange(len(targets))
    return -logits.log_softmax(-1)[rows, targets].sum().item() / batch_sizes[0]


@pytest.mark.parametrize("name", NAMES)
def test_c_tells_which_of_the_captions_of_an_image_is_meant(name):
    # One image with two captions, equally often: the image cannot say which one is meant.
    captions = torch.tensor([[4, 5, 2], [6, 7, 2]])
    features = torch.zeros(2, FEATURES)
    inputs, sizes = (
        torch.cat((torch.ones(2, dtype=torch.int64), captions.T[:-1].flatten())),
        (2,) * 3,
    )
    targets = captions.T.flatten()
    quiet = {"gamma_z": 0.0} if name == "joint" else {"capacity_z_max": 0.0, "gamma_z": 5.0}
    system = make(name, hidden=16, categories=(4,), capacity_c_max=math.log(2), **quiet)
    torch.manual_seed(1)
    torch.nn.init.normal_(system.categories.table.weight)  # the captions start in two categories
    optimizer = torch.optim.Adam(system.parameters(), lr=0.03)
    for step in range(200):
        loss = system.loss(features, inputs, targets, sizes, step).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    system.eval()
    with torch.no_grad():
        posterior = system.posterior(features, Words(inputs, sizes))
        if name == "joint-cvae":
            assert posterior.kl_z() < 0.1
        latents = posterior.without(posterior.latents(), "z" if name == "joint-cvae" else "")
        own = nll(system, posterior.condition(latents), inputs, targets, sizes)
        swapped = nll(system, posterior.condition(latents.flip(0)), inputs, targets, sizes)
        left_out = nll(system, system.condition(features, "left-out"), inputs, targets, sizes)
    assert own < 0.2
    assert swapped > 3
    assert left_out == pytest.approx(math.log(2), abs=0.15)
    assert posterior.kl_c().item() == pytest.approx(math.log(2), abs=0.2)


@pytest.mark.parametrize("name", NAMES)
def test_a_uniform_prior_of_c_ignores_the_image(name, features, words):
    system = make(name, prior_c="uniform")
    c = system.posterior(features).c
    for log_p, size in zip(c.log_probabilities, SIZES, strict=True):
        torch.testing.assert_close(log_p, torch.full((3, size), -math.log(size)))
    read = system.posterior(features, words).c
    entropy = [Categorical(logits=log_q).entropy() for log_q in read.log_probabilities]
    expected = sum(math.log(size) - h for size, h in zip(SIZES, entropy, strict=True))
    torch.testing.assert_close(read.kl().sum(-1), expected)
    assert not [key for key in system.state_dict() if key.startswith("categories.prior")]


@pytest.mark.parametrize("name", [*NAMES, "multispace"])
def test_the_decoder_reads_c_times_its_scale(name, features):
    used, expected = make(name, scale_c=0.25), [0.25, 0.25]
    usual, by_size = make(name), [size**0.5 for size in SIZES]
    for system, scales in ((used, expected), (usual, by_size)):
        c = system.condition(features)[:, Z : Z + C].split(SIZES, -1)
        for part, scale in zip(c, scales, strict=True):
            torch.testing.assert_close(part.amax(-1), torch.full((3,), scale))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("capacity", [0.0, 1.5])
def test_the_prior_always_learns_to_predict_the_posterior(name, capacity, features, words):
    # With a KL below its capacity too, where the posterior is paid for being hard to predict.
    system = make(name, capacity_c_max=capacity)
    standard = system.standardise(features)
    own = system.categories.caption_logits(words).detach()
    expected = torch.autograd.grad(
        Categoricals.from_parameters(own, SIZES, system.categories.prior(standard))
        .prior_loss()
        .sum(-1)
        .mean(),
        system.categories.prior.weight,
    )[0]
    terms = system.loss(features, words.inputs, words.inputs, words.batch_sizes, 0)
    found = torch.autograd.grad(terms.total, system.categories.prior.weight)[0]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_prior_loss_does_not_train_the_posterior(name, features, words):
    system = make(name)
    system.auxiliary_loss(features, words, system.posterior(features, words)).backward()
    assert system.categories.table.weight.grad is None
    assert system.categories.prior.weight.grad.abs().sum() > 0
