import json

import pytest
from click.testing import CliRunner

import multispace.pipeline.demo as module
from multispace.cli import main
from multispace.errors import OptionError


def test_the_demo_runs_from_nothing_and_twice_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "IMAGES", 40)
    monkeypatch.setattr(module, "TRAINING", {"steps": 6, "embedding": 16, "hidden": 16})
    monkeypatch.setattr(module, "PIXELS", 32)
    monkeypatch.setattr(module, "FEATURES", {**module.FEATURES, "resize": 32, "crop": 32})
    printed = []
    for name in ("a", "b"):
        out = tmp_path / name
        result = CliRunner().invoke(main, ["demo", "--out", str(out), "--json"])
        assert result.exit_code == 0, result.output
        printed.append(json.loads(result.stdout))
        assert len(printed[-1]["examples"]) == module.EXAMPLES
        for file in printed[-1]["examples"]:
            assert (out / "collection" / "images" / file.rsplit("/", 1)[1]).exists()
    for part in ("scores", "accuracy"):
        assert printed[0][part] == printed[1][part]
        assert set(printed[0][part]) == {"base", "latent", "multispace"}
    with pytest.raises(OptionError, match="not empty"):
        module.demo(tmp_path / "a", 0, print)
