import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from support import rows
from support.options import used_by

from multispace.cli import main
from multispace.data.annotations import CaptionedImage
from multispace.data.cache.writer import write_cache
from multispace.data.captions.encoded_captions import encode_captions
from multispace.data.captions.vocabulary import build_vocabulary
from multispace.model.latent.distributions import Categoricals, DiagonalGaussian
from multispace.model.latent.posterior import Posterior
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.metrics.latents.factors import (
    factor_lines,
    factor_table,
    read_factors,
    score_factors,
)
from multispace.pipeline.train import train

SHAPES, COLOURS = ("circle", "square"), ("red", "blue", "green")


def entry(number: int) -> dict:
    return {"flat": {"shape": SHAPES[number % 2], "colour": COLOURS[number // 2 % 3]}}


ENTRIES = [entry(number) for number in range(120)]


def test_text_is_categorical_and_numbers_are_ranks():
    flat = [{"flat": {"word": "ab"[n % 2], "rank": (n % 3) * 10, "x": n / 7}} for n in range(60)]
    factors = read_factors(flat)
    assert factors.names == ("word", "rank", "x")
    assert factors.ordinal == (False, True, True)
    assert factors.values[:3].tolist() == [[0, 0, 0], [1, 1, 0], [0, 2, 0]]
    assert factors.values[:, 2].max() == 19  # 60 numbers in 20 bins
    assert (np.bincount(factors.values[:, 2]) == 3).all()


def test_images_without_factors_and_rare_values_are_left_out():
    entries = [None, *ENTRIES, {"flat": {"shape": "star", "colour": "red"}}, {"relation": "above"}]
    factors = read_factors(entries)
    assert factors.images.tolist() == list(range(1, 121))
    assert factors.values.max(0).tolist() == [1, 2]


def test_leaving_one_out_can_make_another_the_only_one():
    # Of two stars one is the only pink image; without it the other is the only star.
    star = [{"flat": {"shape": "star", "colour": colour}} for colour in ("pink", "red")]
    assert read_factors([*star, *ENTRIES]).images.tolist() == list(range(2, 122))


def test_constant_factors_are_left_out():
    entries = [{"flat": {**e["flat"], "size": "large"}} for e in ENTRIES]
    assert read_factors(entries).names == ("shape", "colour")


@pytest.mark.parametrize("entries", [[], [None] * 90, ENTRIES[:49], [ENTRIES[0]] * 60])
def test_where_there_is_too_little_there_are_none(entries):
    assert read_factors(entries) is None


def test_many_images_are_thinned_out():
    factors = read_factors([entry(n * n // 3) for n in range(5000)])
    assert factors.images[:3].tolist() == [0, 3, 6]


def test_latents_that_hold_one_factor_each():
    torch.manual_seed(0)
    factors = read_factors(ENTRIES)
    shape, colour = torch.from_numpy(factors.values).T
    mean = torch.stack((4.0 * shape, 0.01 * torch.randn(120)), 1)
    posterior = Posterior(
        z=DiagonalGaussian(mean, torch.full_like(mean, -4.0)),
        c=Categoricals.from_parameters(9 * torch.nn.functional.one_hot(colour, 3), (3,)),
    )
    report = score_factors(posterior, factors)
    by_shape, by_colour = report["factors"]["shape"], report["factors"]["colour"]
    assert by_shape["mig"] > 0.8
    assert by_shape["probe_z"] == 1.0
    assert by_shape["probe_c"] < 0.7
    assert by_colour["probe_c"] == 1.0
    assert by_colour["probe_z"] < 0.6
    assert by_colour["mig"] < 0.2
    assert by_colour["majority"] == pytest.approx(1 / 3)
    assert report["z"]["factor_vae"]["codes"] == 1
    head, table = factor_table(report)
    assert head[:3] == ["factor", "values", "majority"]
    assert [row[0] for row in table] == ["shape", "colour"]
    assert "600 votes" in factor_lines(report)[0]


def test_c_alone_is_probed():
    factors = read_factors(ENTRIES)
    report = score_factors(
        Posterior(c=Categoricals.from_parameters(torch.randn(120, 3), (3,))), factors
    )
    assert "z" not in report
    assert factor_lines(report) == []
    assert factor_table(report)[0] == ["factor", "values", "majority", "probe of c"]


def test_evaluate_writes_and_prints_what_latents_tell_of_factors(tmp_path):
    texts = [" ".join(e["flat"].values()) for e in ENTRIES[:60]]
    vocabulary = build_vocabulary(texts, "whitespace", 1, "source")
    with write_cache(tmp_path / "cache") as writer:
        writer.put_vocabulary(vocabulary)
        for split in ("train", "test"):
            images = [
                CaptionedImage(f"{split}{n}.jpg", n, (text,), split, ENTRIES[n])
                for n, text in enumerate(texts)
            ]
            writer.put_captions(encode_captions(images, split, vocabulary, "source"))
            rows.append(writer, [image.key for image in images])
    for system in ("base", "multispace"):
        run = tmp_path / system
        sizes = used_by(system, embedding=4, hidden=4, z_size=2, categories=(3,))
        train(TrainOptions(system=system, cache=tmp_path / "cache", run=run, steps=2,
                           batch_size=8, device="cpu", precision="float32", **sizes))  # fmt: skip
        asked = ["evaluate", str(run), "--cache", str(tmp_path / "cache"), "--metrics", "cider",
                 "--device", "cpu"]  # fmt: skip
        result = CliRunner().invoke(main, asked)
        assert result.exit_code == 0, result.output
        written = run / "evaluation" / "test" / "disentanglement.json"
        assert written.exists() == (system == "multispace")
    assert "probe of z" in result.stdout
    assert "shuffling z costs" in result.stdout
    without = CliRunner().invoke(main, [*asked, "--no-disentanglement"])
    assert without.exit_code == 0, without.output
    assert "probe of z" not in without.stdout
    other = run / "evaluation" / "test,no-disentanglement,metrics=cider"
    assert sorted(file.name for file in other.iterdir()) == sorted(
        file.name for file in written.parent.iterdir() if file != written
    )
    report = json.loads(written.read_text())
    assert list(report["factors"]) == ["shape", "colour"]
    assert np.shape(report["z"]["importance"]) == (2, 2)
