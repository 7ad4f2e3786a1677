import json
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from support import rows
from support.options import used_by

from multispace.cli import main
from multispace.data.captions.vocabulary import build_vocabulary
from multispace.model.decoder import Decoder
from multispace.model.latent.distributions import Categoricals, DiagonalGaussian
from multispace.model.latent.posterior import Posterior
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.explore import (
    Latent,
    choose_latents,
    count_words,
    largest_changes,
    traverse,
    word_shares,
)
from multispace.pipeline.train import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explored")
    rows.make_cache(folder / "cache")
    for system in ("base", "multispace"):
        sizes = used_by(system, embedding=4, hidden=4, z_size=3, categories=(4, 2))
        train(TrainOptions(system=system, cache=folder / "cache", run=folder / system, steps=2,
                           batch_size=4, device="cpu", precision="float32", **sizes))  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def speaker():
    """A run whose decoder says "red" again and again where z is above 0, and else "blue"."""
    vocabulary = build_vocabulary(["red", "blue"], "whitespace", 1, "source")
    decoder = Decoder(words=len(vocabulary), condition=3, embedding=2, hidden=1)
    red, blue = (vocabulary.encode(word)[0] for word in ("red", "blue"))
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
        decoder.condition_gates.weight[2, 0] = 1.0  # what is new to the memory
        decoder.output.weight[red], decoder.output.weight[blue] = 100.0, -100.0
        decoder.output.bias[blue] = 1e-3  # where z is 0
    return SimpleNamespace(system=SimpleNamespace(decoder=decoder), vocabulary=vocabulary)


def call(*arguments: object, expect: int = 0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == expect, result.output
    return result


def test_the_largest_kl_and_the_commonest_categories_are_chosen():
    mean = torch.tensor([[0.0, 3.0, 1.0]]).expand(4, 3)
    shares = torch.tensor([[0.1, 0.6, 0.3]]).log().expand(4, 3)
    pair = torch.tensor([[0.2, 0.8]]).log().expand(4, 2)
    posterior = Posterior(DiagonalGaussian(mean, torch.zeros(4, 3)), Categoricals((shares, pair)))
    latents = choose_latents(posterior, 2)
    assert [one.name for one in latents] == ["z1", "z2", "c0=1", "c0=2", "c1=1", "c1=0"]
    assert [one.weight for one in latents] == pytest.approx([4.5, 0.5, 0.6, 0.3, 0.8, 0.2])
    assert latents[0].columns == (1,)
    assert list(latents[0].values) == ["-3", "-2", "-1", "+0", "+1", "+2", "+3"]
    assert latents[3].columns == (3, 4, 5)
    assert latents[3].values == {"on": (0.0, 0.0, 1.0)}
    assert latents[4].columns == (6, 7)


def test_words_follow_the_latent_that_says_them(speaker):
    means = torch.tensor([[1.0, 0.3, 0.0], [-1.0, 0.3, 0.0]])
    own = Posterior(z=DiagonalGaussian(means, torch.zeros_like(means)))
    latents = [
        Latent("z0", 1.0, (0,), {"-3": (-3.0,), "+3": (3.0,)}),
        Latent("z1", 1.0, (1,), {"-3": (-3.0,), "+3": (3.0,)}),
        Latent("c0=0", 0.5, (0,), {"on": (1.0,)}),
    ]
    moved, still, switched = count_words(speaker, own, latents)
    assert (moved.rise, moved.fall) == ({"red": 1.0}, {"blue": -1.0})
    assert (still.rise, still.fall) == ({}, {})
    assert (switched.rise, switched.fall) == ({"red": 0.5}, {"blue": -0.5})  # half were red

    first, *others = traverse(speaker, own, ["one.jpg", "two.jpg"], latents[:2])
    assert (first.key, first.latent, set(first.caption.split())) == ("one.jpg", "z0", {"red"})
    assert {v: set(c.split()) for v, c in first.captions.items()} == {"-3": {"blue"}, "+3": {"red"}}
    assert [(t.key, t.latent) for t in others] == [
        ("one.jpg", "z1"), ("two.jpg", "z0"), ("two.jpg", "z1")]  # fmt: skip
    assert all(caption == others[2].caption for caption in others[2].captions.values())


def test_shares_and_changes_by_hand():
    before = word_shares(["a red bus", "a bus", "red red", "blue"])
    assert before == {"a": 0.5, "red": 0.5, "bus": 0.5, "blue": 0.25}
    rise, fall = largest_changes(before, {"a": 1.0, "red": 0.5, "new": 0.25})
    assert rise == {"a": 0.5, "new": 0.25}
    assert list(fall.items()) == [("bus", -0.5), ("blue", -0.25)]


def test_explore_writes_text_and_json(folder):
    asked = ("explore", folder / "multispace", "--cache", folder / "cache", "--split", "train",
             "--device", "cpu", "--dims", 2)  # fmt: skip
    printed = call(*asked).stdout
    out = folder / "multispace" / "exploration" / "train"
    assert (out / "exploration.txt").read_text() in printed
    found = json.loads((out / "exploration.json").read_text())
    assert found["pictures"] == 3
    assert [t["key"] for t in found["traversals"][::6]] == list(rows.CAPTIONS["train"])
    names = [words["latent"] for words in found["words"]]
    assert [name.split("=")[0].rstrip("012") for name in names[:2]] == ["z", "z"]
    assert [name.split("=")[0] for name in names[2:]] == ["c0", "c0", "c1", "c1"]
    first, second = found["meaning"]["variables"]
    assert (first["size"], second["size"]) == (4, 2)
    assert found["meaning"]["assigned"] == "images"
    assert sum(entry["count"] for entry in first["categories"]) == 3
    assert "c: images are assigned to " in printed
    assert found["meaning"]["sentence"] in printed
    assert f"\n    c0={first['categories'][0]['category']}  " in printed
    recorded = [word for word in asked if word not in ("--cache", folder / "cache")]
    assert call(*recorded).stdout == printed
    one = json.loads(call(*asked, "--key", "sub/é.jpg", "--json").stdout)
    assert {t["key"] for t in one["traversals"]} == {"sub/é.jpg"}


@pytest.mark.parametrize(
    ("system", "options", "message"),
    [
        ("base", [], "base has no latents"),
        ("multispace", ["--key", "none.jpg"], "--key none.jpg"),
        ("multispace", ["--dims", "0"], "--dims 0"),
        ("multispace", ["--pictures", "0"], "--pictures 0"),
    ],
)
def test_what_cannot_be_explored_is_said(folder, system, options, message):
    result = call("explore", folder / system, "--cache", folder / "cache", "--split", "val",
                  "--device", "cpu", *options, expect=2)  # fmt: skip
    assert message in result.stderr
