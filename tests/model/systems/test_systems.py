import math
from dataclasses import dataclass, replace

import pytest
import torch
from support.options import used_by
from torch import Tensor
from torch.distributions import Categorical, Normal, kl_divergence

from multispace.data.captions.vocabulary import UNK
from multispace.errors import ModelError, OptionError
from multispace.model import options, systems
from multispace.model.beam_search import Marks, beam
from multispace.model.encoder import Words
from multispace.model.latent.losses import Loss
from multispace.model.options import SystemOptions
from multispace.model.systems import build
from multispace.model.systems.ag_cvae import AGCVAE
from multispace.model.systems.captioner import Captioner
from multispace.model.systems.multispace import Multispace

FEATURES, WORDS, SIZES = 6, 12, (5, 3)
NAMES = ("base", "latent", "multispace", "cvae", "ag-cvae", "beta-cvae", "joint", "joint-cvae")
WITH_LATENTS = NAMES[1:]
MARKS = Marks()


@dataclass(frozen=True)
class Packed:
    """Three captions of 4, 3 and 1 tokens, laid out step by step."""

    features: Tensor
    inputs: Tensor
    targets: Tensor
    batch_sizes: tuple[int, ...]


@pytest.fixture
def batch() -> Packed:
    generator = torch.Generator().manual_seed(5)
    batch_sizes = (3, 2, 2, 1)
    return Packed(
        features=torch.randn(3, FEATURES, generator=generator),
        inputs=torch.randint(WORDS, (sum(batch_sizes),), generator=generator),
        targets=torch.randint(WORDS, (sum(batch_sizes),), generator=generator),
        batch_sizes=batch_sizes,
    )


def make(system: str, **values: object) -> Captioner:
    torch.manual_seed(0)
    made = build(
        SystemOptions(
            system=system,
            words=WORDS,
            **used_by(
                system,
                **{
                    "feature_size": FEATURES,
                    "embedding": 4,
                    "hidden": 5,
                    "z_size": 7,
                    "categories": SIZES,
                    **values,
                },
            ),
        )
    )
    if isinstance(made, AGCVAE):
        made.set_clusters(torch.arange(WORDS) % 3)
    return made


def loss(system: Captioner, batch: Packed, step: int = 0) -> Loss:
    torch.manual_seed(1)
    return system.loss(batch.features, batch.inputs, batch.targets, batch.batch_sizes, step)


def z_kl(system: Captioner, features: Tensor) -> Tensor:
    """Return the batch mean KL of z, from the layer's output and torch.distributions."""
    mean, log_variance = system.z_parameters(system.standardise(features)).chunk(2, -1)
    q = Normal(mean, (log_variance / 2).exp())
    return kl_divergence(q, Normal(torch.zeros(()), torch.ones(()))).sum(-1).mean()


def c_kl(system: Captioner, features: Tensor) -> Tensor:
    """Return the batch mean KL of c, from the layer's output and torch.distributions."""
    return sum(
        kl_divergence(Categorical(logits=part), Categorical(logits=torch.zeros_like(part))).mean()
        for part in system.c_parameters(system.standardise(features)).split(SIZES, -1)
    )


def test_the_systems_are_those_that_options_know():
    assert tuple(systems.SYSTEMS) == options.SYSTEMS == NAMES


def test_an_unknown_system_is_refused_with_those_there_are():
    with pytest.raises(OptionError, match="vae: use one of base, latent, multispace"):
        make("vae")


# Conditions


@pytest.mark.parametrize(("name", "size"), [("base", 4), ("latent", 7), ("multispace", 7 + 5 + 3)])
def test_the_condition_has_the_size_that_the_decoder_reads(name, size, batch):
    system = make(name)
    condition = system.condition(batch.features)
    assert condition.shape == (3, size)
    assert system.decoder.condition_gates.in_features == size
    assert system.decoder(condition, batch.inputs, batch.batch_sizes).shape == (8, WORDS)


def test_the_condition_of_base_is_a_linear_map_of_the_features(batch):
    system = make("base")
    expected = system.standardise(batch.features) @ system.embed.weight.T + system.embed.bias
    torch.testing.assert_close(system.condition(batch.features), expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_mode_is_deterministic(name, batch):
    system = make(name)
    assert torch.equal(system.condition(batch.features), system.condition(batch.features))


def test_the_mode_is_the_mean_of_z_and_the_likeliest_c(batch):
    system = make("multispace")
    z, *cs = system.condition(batch.features).split((7, *SIZES), -1)
    standard = system.standardise(batch.features)
    torch.testing.assert_close(z, system.z_parameters(standard)[:, :7])
    logits = system.c_parameters(standard).split(SIZES, -1)
    for c, part in zip(cs, logits, strict=True):
        one_hot = torch.nn.functional.one_hot(part.argmax(-1), part.shape[-1]).float()
        torch.testing.assert_close(c, math.sqrt(part.shape[-1]) * one_hot)


@pytest.mark.parametrize("name", ["latent", "multispace", "beta-cvae"])
def test_samples_differ_and_center_on_the_posterior_of_the_image(name, batch):
    system = make(name)
    rows = batch.features[:1].expand(20_000, -1)
    with torch.no_grad():
        draws = system.condition(rows, "sample")
        one = system.standardise(rows[:1])
        mean, log_variance = system.z_parameters(one).chunk(2, -1)
    assert not torch.equal(draws[0], draws[1])
    error = (draws[:, :7].mean(0) - mean[0]).abs()
    assert (error < 5 * (log_variance[0] / 2).exp() / math.sqrt(20_000)).all()
    if name == "multispace":
        drawn = (draws[:, 7:] > 0).float()
        torch.testing.assert_close(draws[:, 7:], drawn * torch.tensor([5.0] * 5 + [3.0] * 3).sqrt())
        assert (drawn.sum(-1) == len(SIZES)).all()
        with torch.no_grad():
            parts = system.c_parameters(one).split(SIZES, -1)
        p = torch.cat([part.softmax(-1) for part in parts], -1)[0]
        error = (drawn.mean(0) - p).abs()
        assert (error < 5 * (p * (1 - p) / 20_000).sqrt()).all()


def test_base_has_nothing_to_sample(batch):
    with pytest.raises(ModelError, match=r"base has no latent space .* use another system"):
        make("base").condition(batch.features, "sample")


def test_standardised_features_are_of_mean_0_and_of_length_1_on_average():
    system = make("base")
    torch.manual_seed(0)
    features = torch.randn(500, FEATURES) * torch.arange(1.0, 7.0) + torch.arange(6.0)
    system.set_feature_moments(features.mean(0), features.std(0, correction=0))
    standard = system.standardise(features)
    torch.testing.assert_close(standard.mean(0), torch.zeros(FEATURES))
    assert standard.square().sum(-1).mean().item() == pytest.approx(1, rel=1e-5)
    share = standard.square().mean(0)  # no feature counts for more than another
    torch.testing.assert_close(share, torch.full((FEATURES,), 1 / FEATURES))


@pytest.mark.parametrize("name", NAMES)
def test_a_system_sees_features_only_as_standardised(name, batch):
    plain, moved = make(name), make(name)
    mean, std = torch.arange(6.0), torch.arange(1.0, 7.0)
    moved.set_feature_moments(mean, std)
    there = replace(batch, features=batch.features * std + mean)
    torch.testing.assert_close(moved.condition(there.features), plain.condition(batch.features))
    torch.testing.assert_close(loss(moved, there), loss(plain, batch))


@pytest.mark.parametrize("name", NAMES)
def test_the_moments_travel_with_the_weights(name, batch):
    system, other = make(name), make(name)
    system.set_feature_moments(torch.full((6,), 2.0), torch.full((6,), 3.0))
    other.load_state_dict(system.state_dict())
    assert torch.equal(other.condition(batch.features), system.condition(batch.features))


@pytest.mark.parametrize("name", NAMES)
def test_features_may_come_as_they_are_stored(name, batch):
    system = make(name)
    stored = batch.features.half()
    condition = system.condition(stored)
    assert condition.dtype == torch.float32
    torch.testing.assert_close(condition, system.condition(stored.float()))


@pytest.mark.parametrize("name", WITH_LATENTS)
def test_the_posterior_begins_narrow_around_means_that_differ(name):
    system = make(name, z_size=400, first_deviation=0.2, feature_size=100)
    features = torch.randn(50, 100, generator=torch.Generator().manual_seed(0))
    words = Words(torch.ones(50, dtype=torch.int64), (50,))
    z = system.posterior(features, words).z
    assert (0.5 * z.log_variance).exp().median().item() == pytest.approx(0.2, rel=0.1)
    if name in ("latent", "multispace"):
        assert z.mean.std().item() == pytest.approx(0.6, rel=0.1)
    if name == "multispace":  # and most images are sure of their category
        sure = system.posterior(features).c.log_probabilities[0].amax(-1).exp()
        assert sure.median() > 0.8


# Losses


@pytest.mark.parametrize("name", NAMES)
def test_the_total_is_the_reconstruction_and_the_penalty(name, batch):
    system = make(name)
    terms = loss(system, batch, step=2000)
    penalty = system.penalty(terms.kl_z, terms.kl_c, 2000)
    if name == "ag-cvae" or name.startswith("joint"):
        words = Words(batch.inputs, batch.batch_sizes)
        posterior = system.posterior(batch.features, words)
        penalty += system.auxiliary_loss(batch.features, words, posterior)
    torch.testing.assert_close(terms.total, terms.reconstruction + penalty)


def test_the_reconstruction_is_that_of_the_drawn_condition(batch):
    system = make("multispace")
    reconstruction = loss(system, batch).reconstruction
    torch.manual_seed(1)
    posterior = system.posterior(batch.features)
    condition = posterior.condition(posterior.relaxed_latents(system.options.temperature))
    c = condition[:, 7:]
    assert (c > 0).all()  # soft, in training
    logits = system.decoder(condition, batch.inputs, batch.batch_sizes)
    nats = -sum(row.log_softmax(-1)[t] for row, t in zip(logits, batch.targets, strict=True))
    torch.testing.assert_close(reconstruction, nats / 3)


def test_the_kls_are_those_of_the_posterior(batch):
    base, latent, multispace = (loss(make(name), batch) for name in NAMES[:3])
    assert base.kl_z == base.kl_c == latent.kl_c == 0
    torch.testing.assert_close(latent.kl_z, z_kl(make("latent"), batch.features))
    beta = loss(make("beta-cvae"), batch)
    torch.testing.assert_close(beta.kl_z, z_kl(make("beta-cvae"), batch.features))
    assert beta.kl_c == 0
    torch.testing.assert_close(multispace.kl_z, z_kl(make("multispace"), batch.features))
    torch.testing.assert_close(multispace.kl_c, c_kl(make("multispace"), batch.features))


KL_Z, KL_C = torch.tensor(10.0), torch.tensor(2.0)


def test_base_pays_nothing_for_a_latent_space(batch):
    terms = loss(make("base"), batch, step=2500)
    assert terms.total == terms.reconstruction


@pytest.mark.parametrize(("step", "penalty"), [(0, 0.0193), (2500, 5.0), (5000, 9.9807)])
def test_latent_pays_the_annealed_kl(step, penalty):
    assert make("latent").penalty(KL_Z, KL_C, step).item() == pytest.approx(penalty, abs=5e-5)


@pytest.mark.parametrize(
    ("step", "penalty"),
    [
        (0, 3 * abs(10 - 4) + 7 * abs(2 - 0)),
        (50, 3 * abs(10 - 12) + 7 * abs(2 - 1)),
        (100, 3 * abs(10 - 20) + 7 * abs(2 - 2)),
        (5000, 3 * abs(10 - 20) + 7 * abs(2 - 2)),
    ],
)
def test_multispace_pays_the_distance_of_each_channel_from_its_capacity(step, penalty):
    system = make(
        "multispace",
        gamma_z=3.0,
        gamma_c=7.0,
        capacity_z_min=4.0,
        capacity_z_max=20.0,
        capacity_c_min=0.0,
        capacity_c_max=2.0,
        capacity_steps=100,
    )
    assert system.penalty(KL_Z, KL_C, step).item() == pytest.approx(penalty)


def test_beta_cvae_pays_the_distance_from_one_capacity():
    system = make("beta-cvae", gamma_z=3.0, capacity_z_min=4.0, capacity_z_max=20.0,
                  capacity_steps=100)  # fmt: skip
    for step, penalty in ((0, 3 * 6), (50, 3 * 2), (5000, 3 * 10)):
        assert system.penalty(KL_Z, KL_C, step).item() == pytest.approx(penalty)


@pytest.mark.parametrize("name", ["multispace", "beta-cvae"])
def test_a_capacity_out_of_proportion_to_z_is_told(name):
    (*_, line) = make(name, z_size=5).warnings()
    assert "150 is 30.0 nats for each of 5 dimensions of z" in line
    assert make(name, z_size=50, capacity_c_max=1.0).warnings() == []


@pytest.mark.parametrize("name", ["latent", "cvae", "ag-cvae"])
def test_the_weight_of_the_kl_rises_to_what_is_asked(name):
    system = make(name, kl_weight=0.1)
    assert system.schedule(2500) == {"weight_kl": pytest.approx(0.05)}
    assert system.penalty(KL_Z, KL_C, 10**9).item() == pytest.approx(1.0)


def test_the_discrete_capacity_stops_at_what_the_categories_carry():
    system = make("multispace", capacity_c_max=50.0)
    assert isinstance(system, Multispace)
    assert system.capacity_c.capped
    assert system.schedule(10**6)["capacity_c"] == pytest.approx(math.log(5 * 3))
    assert not make("multispace", capacity_c_max=2.0).capacity_c.capped


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("base", {}),
        ("latent", {"weight_kl": 0.5}),
        (
            "multispace",
            {
                "capacity_z": 150.0,
                "capacity_c": math.log(15),
                "gamma_z": 0.02,
                "gamma_c": 0.05,
                "temperature": 0.67,
            },
        ),
    ],
)
def test_the_schedule_names_what_is_in_force(name, schedule):
    assert make(name).schedule(2500) == pytest.approx(schedule)


# What training may be asked for besides


def test_free_bits_put_a_floor_under_what_each_dimension_pays(batch):
    system = make("latent", annealing="none", free_bits=0.05, first_deviation=1.0)
    terms = loss(system, batch)
    kl = system.posterior(batch.features).z.kl().mean(0)
    assert (kl < 0.05).any()
    assert (kl > 0.05).any()
    floor = sum(max(0.05, value) for value in kl.tolist())
    assert (terms.total - terms.reconstruction).item() == pytest.approx(floor, rel=1e-5)
    torch.testing.assert_close(terms.kl_z, kl.sum())  # what is reported is the KL itself


@pytest.mark.parametrize(
    ("values", "weights"),
    [
        ({"annealing": "linear", "annealing_steps": 100}, [0, 0.3, 0.8, 1]),
        (
            {"annealing": "cyclical", "annealing_steps": 100, "annealing_cycles": 2},
            [0, 1, 1, 1],  # 30 is past the middle of the first cycle, 80 past that of the second
        ),
        ({"annealing": "none"}, [1, 1, 1, 1]),
    ],
)
def test_the_weight_of_the_kl_can_rise_otherwise(values, weights):
    system = make("latent", **values)
    for step, weight in zip((0, 30, 80, 10**9), weights, strict=True):
        assert system.penalty(KL_Z, KL_C, step).item() == pytest.approx(10 * weight)
        assert system.schedule(step) == {"weight_kl": pytest.approx(weight)}


def test_the_temperature_falls_and_sharpens_the_draws(batch):
    system = make("multispace", temperature=2.0, temperature_rate=0.01, temperature_min=0.1)
    steps = (0, 100, 10**6)
    assert [system.schedule(step)["temperature"] for step in steps] == pytest.approx(
        [2, 2 * math.exp(-1), 0.1]
    )
    seen = []
    system.decoder.condition_gates.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0][:, 7:])
    )
    for step in steps:
        loss(system, batch, step)
    soft, middle, sharp = (c.square().sum() for c in seen)  # 6 where every draw is one-hot
    assert soft < middle < sharp


def test_smoothing_is_for_the_training_loss_alone(batch):
    plain, smooth = make("base"), make("base", label_smoothing=0.2)
    trained, expected = loss(smooth, batch), loss(plain, batch)
    assert trained.reconstruction == expected.reconstruction
    logits = smooth.decoder(smooth.condition(batch.features), batch.inputs, batch.batch_sizes)
    spread = -logits.log_softmax(-1).mean(-1).sum() / 3
    torch.testing.assert_close(trained.total, 0.8 * expected.total + 0.2 * spread)
    assert loss(smooth.eval(), batch).total == expected.total


def test_the_decoder_is_made_as_asked(batch):
    system = make("base", cell="gru", layers=2, embedding=5, tie_embeddings=True, word_dropout=0.5)
    assert len(system.decoder.upper_gates) == 1
    assert system.decoder.word_gates.out_features == 3 * 5
    assert system.decoder.output_weight is system.decoder.embedding.weight
    assert system.decoder.unknown == MARKS.unk == UNK
    assert loss(system, batch).total != loss(system.eval(), batch).total


# Training


@pytest.mark.parametrize("decoder", [{}, {"cell": "gru", "layers": 2}])
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name, decoder, batch):
    system = make(name, **decoder)
    loss(system, batch, step=2500).total.backward()
    for parameter, value in system.named_parameters():
        assert value.grad is not None, parameter
        assert value.grad.abs().max() > 0, parameter
        assert torch.isfinite(value.grad).all(), parameter


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_a_function_of_the_seed(name, batch):
    system = make(name)
    assert loss(system, batch).total == loss(system, batch).total
    again = system.loss(batch.features, batch.inputs, batch.targets, batch.batch_sizes, 0)
    assert (again.total == loss(system, batch).total) == (name == "base")


@pytest.mark.parametrize("name", NAMES)
def test_three_captions_can_be_learnt_by_heart(name):
    # They begin alike: only the image tells how each goes on.
    captions = torch.tensor([[4, 5, MARKS.eos], [4, 6, MARKS.eos], [4, 7, MARKS.eos]])
    features = torch.eye(3, FEATURES)
    inputs = torch.cat((torch.full((3,), MARKS.bos), captions.T[:-1].flatten()))
    if name == "joint-cvae":  # its latents must not carry what the image says
        free = {"gamma_z": 1.0, "gamma_c": 1.0, "capacity_c_max": 0.0}
    else:
        free = {"gamma_z": 0.001, "gamma_c": 0.001}
    system = make(name, **free, annealing_midpoint=10**6, hidden=16)
    optimizer = torch.optim.Adam(system.parameters(), lr=0.1)
    for step in range(100):
        terms = system.loss(features, inputs, captions.T.flatten(), (3, 3, 3), step)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
    condition = system.condition(features)
    assert torch.equal(beam(system.decoder, condition, marks=MARKS, width=1), captions)


@pytest.mark.parametrize("name", NAMES)
def test_kls_stay_in_float32_under_autocast(name, batch):
    system = make(name)
    with torch.autocast("cpu", torch.bfloat16):
        terms = loss(system, batch)
    assert {term.dtype for term in terms} == {torch.float32}
    torch.testing.assert_close(terms.total, loss(system, batch).total, rtol=0.03, atol=0.03)
