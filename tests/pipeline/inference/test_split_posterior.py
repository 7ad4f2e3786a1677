from dataclasses import replace

import pytest
import torch
from support.options import used_by
from support.rows import append, put_text

from multispace.data.batches import load_pairs
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.model.encoder import Words
from multispace.model.options import SystemOptions
from multispace.model.systems import build
from multispace.pipeline.inference.split_posterior import posterior_of

CAPTIONS = {
    "1.jpg": ("a b", "a"),
    "2.jpg": ("a b a b", "b"),
    "3.jpg": ("b", "a b a"),
}


@pytest.fixture
def pairs(tmp_path):
    with write_cache(tmp_path / "cache") as writer:
        put_text(writer, {"train": CAPTIONS})
        append(writer, list(CAPTIONS))
    return load_pairs(Cache.open(tmp_path / "cache"), "train")


def make(system: str):
    torch.manual_seed(0)
    sizes = {"embedding": 4, "hidden": 5, "z_size": 3, "words": 8}
    return build(SystemOptions(system=system, feature_size=6, **used_by(system, **sizes))).eval()


def test_without_a_reader_it_is_the_posterior_of_the_images(pairs):
    system = make("latent")
    same, posterior = posterior_of(system, pairs)
    assert same is pairs
    assert torch.equal(posterior.z.mean, system.posterior(pairs.features).z.mean)


@pytest.mark.parametrize("name", ["cvae", "joint"])
@pytest.mark.parametrize("part", [1, 2, 512])
def test_a_reader_has_read_the_first_caption_of_each_image(pairs, part, name, monkeypatch):
    monkeypatch.setattr("multispace.pipeline.inference.split_posterior.PART", part)
    system = make(name)
    kept, posterior = posterior_of(system, pairs)
    assert kept.keys == pairs.keys
    assert len(kept) == len(kept.features) == 3
    assert kept.lengths.tolist() == [3, 5, 2]  # with EOS
    for row in range(3):
        batch = kept.batch(kept.rows[row : row + 1])
        alone = system.posterior(batch.features, Words(batch.inputs, batch.batch_sizes))
        torch.testing.assert_close(posterior.z.mean[row], alone.z.mean[0])
        torch.testing.assert_close(posterior.mode()[row], alone.mode()[0])


def test_an_image_without_a_caption_is_left_out(pairs):
    there = pairs.rows != 1
    few = replace(
        pairs, rows=pairs.rows[there], starts=pairs.starts[there], lengths=pairs.lengths[there]
    )
    kept, posterior = posterior_of(make("ag-cvae"), few)
    assert kept.keys == [pairs.keys[0], pairs.keys[2]]
    assert kept.rows.tolist() == [0, 1]
    assert len(posterior.mode()) == 2
