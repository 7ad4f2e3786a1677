import json

import numpy as np
import pytest
from click.testing import CliRunner

import multispace.pipeline.demo as module
from multispace.cli import main
from multispace.data.cache.reader import Cache
from multispace.errors import OptionError
from multispace.model.options import RECOMMENDED
from multispace.pipeline.reporting.contestants import sample_scores, single_scores

ROWS = ["joint-cvae", "joint", "multispace", "latent", "latent (last)", "base"]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "first"


@pytest.fixture(scope="module")
def result(out):
    """The result of a tiny demo."""
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch)
        return module.demo(out, 0, lambda line: None)


def make_tiny(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module, "IMAGES", 40)
    patch.setattr(module, "SAMPLES", 3)
    patch.setattr(module, "TEMPERATURES", (0.5, 1.0))
    patch.setattr(module, "TRAINING", {"steps": 6, "embedding": 16, "hidden": 16})
    patch.setattr(module, "PIXELS", 32)
    patch.setattr(module, "FEATURES", {**module.FEATURES, "resize": 32, "crop": 32})


def test_the_demo_runs_from_nothing_and_twice_alike(tmp_path, monkeypatch, out, result):
    make_tiny(monkeypatch)
    again = CliRunner().invoke(main, ["demo", "--out", str(tmp_path / "second"), "--json"])
    assert again.exit_code == 0, again.output
    assert "train joint" in again.stderr
    first, second = json.loads(json.dumps(result.to_json())), json.loads(again.stdout)
    assert first["answers"] == second["answers"]
    assert list(first["evaluations"]) == ROWS
    for name, found in first["evaluations"].items():
        for number in ("scores", "curve", "latents", "attributes"):
            assert found[number] == second["evaluations"][name][number]
    assert first["evaluations"]["latent (last)"]["checkpoint"] == "last"
    assert ROWS[0] == RECOMMENDED
    assert len(result.examples) == module.EXAMPLES
    for file, captions in result.examples.items():
        assert (out / "collection" / "images" / file.rsplit("/", 1)[1]).exists()
        assert list(captions) == ROWS


def test_a_folder_with_contents_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(OptionError, match="not empty"):
        module.demo(tmp_path, 0, print)
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_the_numbers_of_the_demo_are_those_of_its_evaluations(out, result):
    captions = Cache.open(out / "cache").captions("test")
    factors = dict(zip(captions.image_ids, captions.factors, strict=True))
    points = []
    for name, found in result.evaluations.items():
        single = single_scores(name, found, factors)
        assert single.cider.mean() == pytest.approx(found.scores.corpus["CIDEr"])
        tally = found.attributes["attributes"]["colour"]
        assert np.array_equal(single.colours.sum(0), [tally["right"], tally["mentioned"]])
        samples = sample_scores(name, found)
        points += [each.name for each in samples]
        assert samples[0].mean.mean() == pytest.approx(found.diversity["oracle"]["mean"]["CIDEr"])
        assert samples[0].best.mean() == pytest.approx(found.diversity["oracle"]["best"]["CIDEr"])
        assert samples[0].self_cider.mean() == pytest.approx(
            found.diversity["samples"]["self-CIDEr"]
        )
    assert points == [*ROWS[:-1], "base at 0.5", "base at 1"]
    blocks = [block.splitlines() for block in result.render().split("\n\n")]
    tables = {lines[0].split("  ")[0]: lines[1:] for lines in blocks}
    assert [line.split("  ")[0] for line in tables["single captions"]] == ROWS
    assert [line.split("  ")[0] for line in tables["3 samples"]] == points
    assert [line.split("  ")[0] for line in tables["latents"]] == ROWS[:-1]
    assert [line.split("  ")[0] for line in tables["who wins what"]] == [
        answer.question for answer in result.answers
    ]
    assert blocks[-2] == [f"The page to look at: {out / 'report.html'}"]
    page = (out / "report.html").read_text()
    assert all(f">{system}" in page for system in module.SYSTEMS)
    assert "at the self-CIDEr of base sampled at temperature 1" in page
