import pytest
import torch
from support.options import used_by
from support.rows import make_cache

from multispace.data.batches import load_pairs
from multispace.model.systems import build
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.inference.decoding import caption_features
from multispace.pipeline.inference.samples import Sampling, caption_samples
from multispace.pipeline.metrics.samples.consensus import consensus
from multispace.pipeline.training.validation import (
    END,
    MIN_STEPS,
    collapse_warning,
    latent_distributions,
    validation_metrics,
)


@pytest.fixture
def cache(tmp_path):
    return make_cache(tmp_path / "cache")


def make(cache, tmp_path, system="multispace", **other):
    sizes = used_by(system, embedding=6, hidden=6, z_size=4, categories=(3, 2))
    options = TrainOptions(system=system, cache=cache.root, run=tmp_path / "run", **sizes, **other)
    torch.manual_seed(1)
    return options, build(options.system_options(len(cache.vocabulary()), 6))


def test_terms_are_means_over_captions_with_every_schedule_at_its_end(cache, tmp_path):
    options, system = make(cache, tmp_path, "base", label_smoothing=0.2)
    pairs = load_pairs(cache, "train")
    system.train()
    numbers = validation_metrics(system, pairs, cache.vocabulary(), options, list)
    nats = 0.0
    for caption in range(len(pairs)):
        batch = pairs.batch(torch.tensor([caption]).numpy())
        condition = system.condition(batch.features)
        log_p = system.decoder(condition, batch.inputs, batch.batch_sizes).log_softmax(-1)
        nats -= log_p.gather(1, batch.targets[:, None]).sum().item()
    assert numbers["recon"] == numbers["loss"] == pytest.approx(nats / len(pairs), rel=1e-5)
    options, system = make(cache, tmp_path, "latent")
    numbers = validation_metrics(system, pairs, cache.vocabulary(), options, list)
    assert system.weight(END) == 1
    assert numbers["loss"] == pytest.approx(numbers["recon"] + numbers["kl_z"], rel=1e-5)


def test_the_same_twice_whatever_was_drawn_before(cache, tmp_path):
    options, system = make(cache, tmp_path)
    pairs = load_pairs(cache, "val")
    first = validation_metrics(system, pairs, cache.vocabulary(), options, list)
    torch.randn(7)
    assert validation_metrics(system, pairs, cache.vocabulary(), options, list) == first


@pytest.mark.parametrize("way", ["mode", "left-out", "consensus"])
def test_checkpoints_are_selected_by_the_single_captions(cache, tmp_path, way, monkeypatch):
    options, system = make(cache, tmp_path, "joint", single_caption=way)
    with torch.no_grad():
        for parameter in system.parameters():
            parameter.normal_()  # captions differ
    pairs, words = load_pairs(cache, "train"), cache.vocabulary()
    seen = []
    monkeypatch.setattr(
        "multispace.pipeline.training.validation.quick_cider",
        lambda _, captions: [float(not seen.append(captions))],
    )
    references = [*pairs.captions.references().values()]
    validation_metrics(system, pairs, words, options, lambda: references)
    if way == "consensus":
        many = caption_samples(system, pairs.features, words, Sampling(20, options.seed))
        places = consensus(many, references)
        expected = [texts[place] for texts, place in zip(many, places, strict=True)]
    else:
        expected = caption_features(system, pairs.features, words, latents=way)
    assert seen == [expected]


def test_latent_distributions_are_those_of_the_posterior(cache, tmp_path):
    _, system = make(cache, tmp_path)
    pairs = load_pairs(cache, "train")
    found = latent_distributions(system, pairs)
    posterior = system.posterior(pairs.features)
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {
        "z_mean": (3, 4), "z_deviation": (3, 4), "z_kl": (4,), "c_category": (3, 2), "c_kl": (2,)
    }  # fmt: skip
    torch.testing.assert_close(found["z_kl"].sum(), posterior.kl_z())
    torch.testing.assert_close(found["c_kl"].sum(), posterior.kl_c())
    assert torch.equal(found["z_mean"], posterior.z.mean)
    assert latent_distributions(make(cache, tmp_path, "base")[1], pairs) == {}


def test_nats_lost_with_other_latents_are_told(cache, tmp_path):
    pairs = load_pairs(cache, "val")
    options, system = make(cache, tmp_path)
    numbers = validation_metrics(system, pairs, cache.vocabulary(), options, list)
    assert {"shuffled_z", "shuffled_c", "shuffled_both"} < set(numbers)
    options, system = make(cache, tmp_path, "base")
    numbers = validation_metrics(system, pairs, cache.vocabulary(), options, list)
    assert "shuffled_both" not in numbers


def test_a_collapse_is_told_of_either_sign():
    whole = {"kl_z": 20.0, "kl_c": 1.0, "shuffled_both": 3.0}
    assert collapse_warning(whole, MIN_STEPS) is None
    none = {"kl_z": 0.0, "kl_c": 0.0}  # base: nothing to collapse
    assert collapse_warning(none, MIN_STEPS) is None
    for sign in ({"kl_z": 0.2, "kl_c": 0.1}, {"shuffled_both": 0.03}):
        assert "the latent space is collapsing" in collapse_warning({**whole, **sign}, MIN_STEPS)
    line = collapse_warning({**whole, "shuffled_both": 0.03}, MIN_STEPS)
    assert "holds 21.00 nats" in line
    assert "lose 0.03 nats" in line


def test_the_first_steps_tell_of_no_collapse():
    numbers = {"kl_z": 0.0, "kl_c": 0.0, "shuffled_both": 0.0}
    assert collapse_warning(numbers, MIN_STEPS - 1) is None
    assert collapse_warning(numbers, MIN_STEPS) is not None
