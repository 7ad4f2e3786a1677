import json
import math
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from model.errors import ModelError
from model.options import SystemOptions


def make(**values: object) -> SystemOptions:
    return SystemOptions(**{"system": "multispace", "words": 100, "feature_size": 8, **values})


def test_the_defaults_are_those_of_the_systems():
    options = make()
    assert options.z_size == 128
    assert options.categories == (128,)
    assert options.temperature == 0.67
    assert (options.annealing_midpoint, options.annealing_slope) == (2500, 0.0025)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("system", "vae"),
        ("words", 0),
        ("feature_size", -1),
        ("embedding", 0),
        ("hidden", 0),
        ("z_size", 0),
        ("categories", ()),
        ("categories", (128, 1)),
        ("temperature", 0.0),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("gamma_z", -1.0),
        ("gamma_c", math.nan),
        ("annealing_slope", math.inf),
        ("capacity_steps", -1),
        ("capacity_z_min", 31.0),
        ("capacity_z_max", math.inf),
        ("capacity_c_min", -1.0),
        ("capacity_c_max", math.nan),
    ],
)
def test_a_value_out_of_range_is_refused_by_name_in_one_line(name, value):
    with pytest.raises(ModelError) as raised:
        make(**{name: value})
    message = str(raised.value)
    assert name in message
    assert str(value) in message
    assert "\n" not in message


def test_an_unknown_system_is_refused_with_those_there_are():
    with pytest.raises(ModelError, match="'vae': use one of base, latent, multispace"):
        make(system="vae")


def test_options_do_not_change():
    with pytest.raises(FrozenInstanceError):
        make().words = 5


def test_options_survive_json():
    options = make(categories=(2, 3), dropout=0.1, capacity_steps=7)
    assert SystemOptions.from_json(json.loads(json.dumps(options.to_json()))) == options


@pytest.mark.parametrize("change", [{"word": 5}, {"hidden": None}])
def test_missing_and_unknown_names_are_refused(change):
    value = {**make().to_json(), **change}
    value = {name: v for name, v in value.items() if v is not None}
    with pytest.raises(ModelError, match=f"missing or unknown '{next(iter(change))}'"):
        SystemOptions.from_json(value)


def test_options_are_read_without_torch():
    code = "import sys, model.options; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
