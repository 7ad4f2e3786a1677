import dataclasses

import pytest
import yaml
from click.testing import CliRunner
from support.rows import make_cache

from multispace.cli import main
from multispace.errors import CaptionsError
from multispace.model.systems import build
from multispace.pipeline.command_options.presets import PRESETS, preset_options
from multispace.pipeline.command_options.train_options import TrainOptions, resolve
from multispace.pipeline.training.dry_run import plan


@pytest.fixture
def options(tmp_path):
    make_cache(tmp_path / "cache")
    return TrainOptions(
        system="multispace", cache=tmp_path / "cache", run=tmp_path / "run", batch_size=4, epochs=3,
        embedding=8, hidden=6, z_size=5, categories=(3, 2), capacity_c_max=9.0,
    )  # fmt: skip


def test_sizes_and_steps_are_those_of_the_training_to_come(options):
    planned = plan(options)
    built = build(options.system_options(planned.words, planned.feature_size))
    assert planned.parameters == sum(p.numel() for p in built.parameters())
    assert (planned.captions, planned.steps_per_epoch, planned.steps) == (6, 2, 6)
    assert "capacity_c_max 9 is above the 1.792 nats" in planned.warnings[0]
    assert planned.to_json()["warnings"] == planned.notes
    assert plan(dataclasses.replace(options, epochs=None, steps=5)).steps == 5
    with pytest.raises(CaptionsError, match="no captions of split 'elsewhere'"):
        plan(dataclasses.replace(options, train_split="elsewhere"))


def test_a_dry_run_prints_what_config_reads_back_and_writes_nothing(options, tmp_path):
    said = ["train", "multispace", "--cache", str(options.cache), "--run", str(options.run),
            "--preset", "fast", "--hidden", "6", "--categories", "3,2", "--dry-run"]  # fmt: skip
    printed = CliRunner().invoke(main, said)
    assert printed.exit_code == 0, printed.output
    assert "# parameters: " in printed.stdout
    assert not options.run.exists()
    config = tmp_path / "plan.yaml"
    config.write_text(printed.stdout)
    assert plan(resolve({}, config)).render() == printed.stdout.rstrip()
    resolved = resolve({}, config)
    assert (resolved.hidden, resolved.categories, resolved.epochs) == (6, (3, 2), 10)
    assert resolved.to_json() == {**yaml.safe_load(printed.stdout), "categories": (3, 2)}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_lie_under_all_else(name, tmp_path):
    needed = {"system": "latent", "cache": "cache", "run": "run"}
    preset = preset_options(name, "latent")
    resolved = resolve(needed, None, preset=name)
    assert {option: getattr(resolved, option) for option in preset} == preset
    config = tmp_path / "config.yaml"
    config.write_text("hidden: 77\nbatch_size: 5\nsteps: 9\n")
    over = resolve({**needed, "batch_size": 6}, config, preset=name)
    assert (over.hidden, over.batch_size, over.steps, over.epochs) == (77, 6, 9, None)
