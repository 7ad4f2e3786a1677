import json
import math
import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest
from support.paths import ROOT

from multispace.errors import ModelError, OptionError
from multispace.fields import declared_options, flag, shown_value
from multispace.model.options import SYSTEM_KINDS, ModelOptions, SystemOptions, users


def make(**values: object) -> SystemOptions:
    return SystemOptions(**{"system": "multispace", "words": 100, "feature_size": 8, **values})


def test_the_defaults_are_those_of_the_systems():
    options = make()
    assert options.z_size == 128
    assert options.categories == (128,)
    assert options.temperature == 0.67
    assert (options.annealing_midpoint, options.annealing_slope) == (2500, 0.0025)


@pytest.mark.parametrize(
    ("values", "way"),
    [
        ({"system": "base"}, "mode"),
        ({"system": "multispace"}, "mode"),
        ({"system": "joint"}, "reranked"),
        ({"system": "joint-cvae"}, "reranked"),
        ({"system": "joint", "latent_dropout": 0.0}, "mode"),
        ({"system": "joint", "single_caption": "consensus"}, "consensus"),
    ],
)
def test_single_captions_are_reranked_where_latents_may_be_left_out(values, way):
    options = make(**values)
    assert options.single_caption == way
    assert SystemOptions.from_json(json.loads(json.dumps(options.to_json()))) == options


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
        ("capacity_z_min", 151.0),
        ("capacity_z_max", math.inf),
        ("capacity_c_min", -1.0),
        ("capacity_c_max", math.nan),
        ("cell", "rnn"),
        ("layers", 0),
        ("word_dropout", 1.0),
        ("label_smoothing", -0.1),
        ("annealing", "linaer"),
        ("annealing_steps", 0),
        ("annealing_cycles", 0),
        ("free_bits", -0.5),
        ("temperature_min", 0.0),
        ("temperature_rate", -1e-5),
    ],
)
def test_a_value_out_of_range_is_refused_by_name_in_one_line(name, value):
    with pytest.raises(OptionError) as raised:
        make(**{name: value})
    message = str(raised.value)
    assert flag(name) in message
    assert shown_value(value) in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"free_bits": 0.5}, ("--free-bits 0.5: system multispace", "latent, cvae, ag-cvae")),
        ({"free_bits": 0.5, "system": "base"}, ("--free-bits", "system base")),
        ({"annealing": "none"}, ("--annealing none: system multispace",)),
        ({"kl_weight": 0.1, "system": "beta-cvae"}, ("--kl-weight 0.1: system beta-cvae",)),
        ({"clusters": 8, "system": "cvae"}, ("--clusters 8: system cvae", "it is for ag-cvae")),
        ({"sample_deviation": 2.0}, ("--sample-deviation 2.0", "it is for cvae, ag-cvae")),
        ({"temperature_rate": 1e-4, "system": "latent"}, ("--temperature-rate", "system latent")),
        ({"z_size": 12, "system": "base"}, ("--z-size 12: system base does not use",)),
        ({"categories": (64,), "system": "latent"}, ("--categories 64", "it is for multispace")),
        ({"gamma_z": 1.0, "system": "base"}, ("--gamma-z 1.0", "it is for multispace, beta-cvae")),
        ({"gamma_c": 1.0, "system": "beta-cvae"}, ("--gamma-c 1.0", "system beta-cvae")),
        ({"temperature_min": 0.3}, ("--temperature-min 0.3", "--temperature-rate")),
        (
            {"temperature": 0.4, "temperature_rate": 1e-4},
            ("--temperature-min 0.5", "--temperature 0.4"),
        ),
        (
            {"annealing_steps": 9, "system": "latent"},
            ("--annealing-steps 9", "--annealing logistic", "cyclical"),
        ),
        (
            {"annealing_cycles": 2, "system": "latent"},
            ("--annealing-cycles 2", "--annealing logistic"),
        ),
        (
            {"annealing": "linear", "annealing_cycles": 2, "system": "latent"},
            ("--annealing-cycles 2", "--annealing linear"),
        ),
        (
            {"annealing": "cyclical", "annealing_slope": 1.0, "system": "latent"},
            ("--annealing-slope 1.0", "--annealing cyclical"),
        ),
        (
            {"tie_embeddings": True, "embedding": 8, "hidden": 9},
            ("--tie-embeddings", "--embedding 8", "--hidden 9"),
        ),
        ({"capacity_z_min": 151.0}, ("--capacity-z-min 151.0", "--capacity-z-max 150.0")),
    ],
)
def test_options_that_do_not_go_together_are_refused_by_name(values, parts):
    with pytest.raises(OptionError) as raised:
        make(**values)
    assert all(part in str(raised.value) for part in parts), raised.value


def test_an_unknown_system_is_refused_with_those_there_are():
    with pytest.raises(OptionError, match="vae: use one of base, latent, multispace"):
        make(system="vae")


def test_options_do_not_change():
    with pytest.raises(FrozenInstanceError):
        make().words = 5


def test_options_survive_json():
    options = make(categories=(2, 3), dropout=0.1, capacity_steps=7)
    assert SystemOptions.from_json(json.loads(json.dumps(options.to_json()))) == options


def test_an_option_that_an_older_run_did_not_know_has_its_default():
    value = make(hidden=7).to_json()
    for name in ("cell", "layers", "tie_embeddings", "gamma_c", "categories"):
        del value[name]
    assert SystemOptions.from_json(value) == make(hidden=7)


def test_only_the_options_that_the_system_uses_are_recorded():
    value = make(system="base").to_json()
    assert set(value) == {
        "system", "words", "feature_size", "embedding", "hidden", "cell", "layers",
        "tie_embeddings", "dropout", "word_dropout", "label_smoothing",
    }  # fmt: skip
    assert {"z_size", "gamma_z", "capacity_steps"} <= set(make(system="beta-cvae").to_json())
    assert not {"categories", "gamma_c"} & set(make(system="beta-cvae").to_json())


def test_what_an_older_run_recorded_without_using_it_is_ignored():
    value = {**make(system="base").to_json(), "z_size": 12, "gamma_z": 1.0, "categories": [3, 3]}
    assert SystemOptions.from_json(value) == make(system="base")


def test_every_system_has_a_summary_and_every_part_an_option():
    assert all(kind.summary for kind in SYSTEM_KINDS.values())
    parts = frozenset().union(*(kind.parts for kind in SYSTEM_KINDS.values()))
    used = {declared.users for _, declared in declared_options(ModelOptions)}
    assert {users(part) for part in parts} <= used


@pytest.mark.parametrize("change", [{"word": 5}, {"words": None}, {"system": None}])
def test_missing_and_unknown_names_are_refused(change):
    value = {**make().to_json(), **change}
    value = {name: v for name, v in value.items() if v is not None}
    with pytest.raises(ModelError, match=f"missing or unknown '{next(iter(change))}'"):
        SystemOptions.from_json(value)


def test_options_are_read_without_torch():
    code = "import sys, multispace.model.options; sys.exit('torch' in sys.modules)"
    root = ROOT
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
