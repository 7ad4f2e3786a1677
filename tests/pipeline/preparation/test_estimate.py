import json

import pytest
from click.testing import CliRunner
from support.tiny import SPLITS, make_collection, options

from multispace.cli import main
from multispace.errors import OptionError
from multispace.pipeline.preparation.estimate import estimate
from multispace.pipeline.preprocess import preprocess


@pytest.fixture
def collection(tmp_path):
    return make_collection(tmp_path / "collection")


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_estimate_counts_what_is_left_and_writes_nothing(collection, tmp_path):
    images = collection / "images"
    (images / "train-001.png").unlink()
    (images / "train-002.png").write_bytes(b"no image")
    before = content(tmp_path)
    expected = estimate(options(tmp_path / "new", collection))
    assert content(tmp_path) == before
    assert not (tmp_path / "new").exists()
    assert (expected.images, expected.held, expected.absent) == (SPLITS["train"], 0, 1)
    assert expected.sample == 11  # all there are: fewer than the sample
    assert expected.failing == {"train-002.png": "not an image of a known format"}
    assert expected.bytes == 11 * (512 * 2 + 32 + len("train-003.png"))
    assert expected.rate > 0
    assert expected.seconds == pytest.approx(11 / expected.rate)
    assert expected.bottleneck.startswith("bottleneck: ")
    assert expected.render().splitlines()[-1] == "nothing was written"


def test_what_the_cache_holds_is_not_counted_again(collection, tmp_path):
    preprocess(options(tmp_path / "cache", collection))
    before = content(tmp_path)
    expected = estimate(options(tmp_path / "cache", collection))
    assert content(tmp_path) == before
    assert (expected.held, expected.sample, expected.seconds) == (SPLITS["train"], 0, 0)


def test_the_command_prints_it(collection, tmp_path):
    asked = ["preprocess", "--dry-run", "--annotations", str(collection / "train.json"), "--images",
             str(collection / "images"), "--cache", str(tmp_path / "new"), "--backbone", "resnet18",
             "--weights", "random", "--resize", "32", "--crop", "32"]  # fmt: skip
    result = CliRunner().invoke(main, asked)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "nothing was written")
    assert json.loads(CliRunner().invoke(main, [*asked, "--json"]).stdout)["sample"] == 12
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("change", [{"ray": "auto"}, {"backbone": "resnet18,resnet34"},
                                    {"images": None, "captions_only": True}])  # fmt: skip
def test_only_what_can_be_tried_is_estimated(collection, tmp_path, change):
    with pytest.raises(OptionError, match="--dry-run: tries one backbone in this process"):
        estimate(options(tmp_path / "new", collection, **change))
