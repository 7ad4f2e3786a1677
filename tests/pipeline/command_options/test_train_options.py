import json
from dataclasses import fields
from pathlib import Path

import pytest

from multispace.errors import OptionError
from multispace.fields import declared_options, default_of
from multispace.model.options import SYSTEMS, USERS, ModelOptions
from multispace.pipeline.command_options.presets import PRESETS, preset_options
from multispace.pipeline.command_options.train_options import (
    GROUPS,
    TrainOptions,
    parse_categories,
    resolve,
)

GIVEN = {"system": "latent", "cache": "c", "run": "r"}


def test_the_command_line_goes_over_the_file(tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text("batch-size: 64\nhidden: 32\nlearning_rate: 1\n")
    options = resolve({**GIVEN, "hidden": 48}, file)
    assert (options.batch_size, options.hidden, options.learning_rate) == (64, 48, 1.0)
    assert (options.cache, options.run) == (Path("c"), Path("r"))


def test_options_survive_json(tmp_path):
    options = resolve({**GIVEN, "system": "multispace", "categories": "16x8", "steps": 5}, None)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"options": options.to_json(), "versions": {}}))
    assert resolve({}, file) == options


def test_the_system_may_come_from_the_file_or_the_run(tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text("system: joint\ncache: c\nhidden: 7\n")
    assert resolve({"run": "r"}, file) == resolve(
        {"system": "joint", "cache": "c", "run": "r", "hidden": 7}, None
    )
    assert resolve({"run": "r", "system": "latent"}, file).system == "latent"
    (tmp_path / "config.json").write_text(json.dumps({"options": resolve(GIVEN, None).to_json()}))
    assert resolve({"run": str(tmp_path)}, None, resume=True).system == "latent"


@pytest.mark.parametrize("resume", [False, True])
def test_a_system_that_nothing_names_is_asked_for(tmp_path, resume):
    with pytest.raises(OptionError, match="SYSTEM: the system is missing; name it, or give --con"):
        resolve({"cache": "c", "run": str(tmp_path)}, None, resume=resume)


def test_steps_and_epochs_take_each_others_place(tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text("epochs: 3\n")
    options = resolve({**GIVEN, "steps": 9}, file)
    assert (options.steps, options.epochs) == (9, None)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("learning_rate: 1e-3", "learning_rate", 0.001),  # text for PyYAML, as all of these
        ("learning_rate: 5E-4", "learning_rate", 0.0005),
        ("learning_rate: 1.e-2", "learning_rate", 0.01),
        ("clip: 2e1", "clip", 20.0),
        ("steps: 1e4", "steps", 10_000),
    ],
)
def test_numbers_with_an_exponent_need_no_point(tmp_path, text, name, value):
    file = tmp_path / "options.yaml"
    file.write_text(text)
    found = getattr(resolve(GIVEN, file), name)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hiden: 3", "unknown option 'hiden'; did you mean hidden?"),
        ("hidden: many", "hidden is 'many', expected int"),
        ("hidden: 1e-3", "hidden is 0.001, expected int"),
        ("hidden: 1e300", "hidden is 1e+300, expected int"),
        ("learning_rate: 1e999", "it must be a finite number"),
        ("learning_rate: 1e", "learning_rate is '1e', expected float"),
        ("cell: 1e3", "--cell 1e3: use one of lstm, gru"),
        ("hidden: true", "hidden is True, expected int"),
        ("tie_embeddings: 1", "tie_embeddings is 1, expected bool"),
        ("hidden: [1", "not YAML"),
        ("just text", "write names and values, as in `batch_size: 128`"),
        ("hidden: [1, 2]", "hidden is a list, expected int"),
        ("1: 2", "the name 1 is not text"),
        (f"hidden: {'9' * 40}", "more than 63 bits"),
        (f"cell: {'x' * 9000}", "cell has 9000 characters"),
        ("a: &a [1]\nb: *a", "aliases (*name) are not allowed"),
        ("hidden: " + "[" * 3000, "too deeply nested"),
        ("categories: 2x3000000000", "--categories '2x3000000000': write 128"),
        ("categories: [[3], 4]", "--categories a list: write 128"),
    ],
)
def test_faults_of_a_file_are_named(tmp_path, text, message):
    file = tmp_path / "options.yaml"
    file.write_text(text)
    with pytest.raises(OptionError) as caught:
        resolve(GIVEN, file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value) or "--" in str(caught.value.where)
    assert len(str(caught.value)) < len(str(file)) + 400


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 1, "steps": 1}, "--epochs and --steps"),
        ({"batch_size": 0}, "--batch-size 0: it must be at least 1"),
        ({"learning_rate": 0.0}, "--learning-rate 0.0: it must be above 0"),
        ({"select": "bleu"}, "--select bleu: use one of cider, loss"),
        ({"system": "gan"}, "gan: use one of base, latent, multispace"),
        ({"system": "multispace", "temperature": 0.0}, "--temperature 0.0: it must be above 0"),
        (
            {"system": "multispace", "capacity_z_min": 9.0, "capacity_z_max": 3.0},
            "--capacity-z-min 9.0 and --capacity",
        ),
        ({"system": "multispace", "categories": (1,)}, "each variable needs 2 or more"),
        ({"dropout": 1.0}, "--dropout 1.0: it must be below 1"),
        ({"learning_rate": float("nan")}, "--learning-rate nan: it must be a finite number"),
        ({"ema": 1.0}, "--ema 1.0: it must be below 1"),
        ({"patience": 0}, "--patience 0: it must be at least 1"),
        ({"lr_min": 1e-5}, "--lr-min 1e-05 and --lr-schedule constant"),
        ({"lr_schedule": "linear", "lr_min": 1.0}, "--lr-min 1.0 and --learning-rate 0.001"),
        ({"free_bits": 0.1, "system": "multispace"}, "--free-bits 0.1: system multispace"),
    ],
)
def test_values_that_cannot_be_are_refused(change, message):
    with pytest.raises(OptionError) as caught:
        TrainOptions(**{**GIVEN, **change})
    assert message in str(caught.value)


def test_what_is_missing_is_named():
    with pytest.raises(OptionError, match="--cache is missing"):
        resolve({"system": "base", "run": "r"}, None)


@pytest.mark.parametrize(
    ("value", "sizes"),
    [("128", (128,)), ("16x8", (16,) * 8), ("10,4", (10, 4)), ([3, 2], (3, 2)), (7, (7,))],
)
def test_categories(value, sizes):
    assert parse_categories(value) == sizes


def test_categories_that_are_none():
    with pytest.raises(OptionError, match="write 128, 16x8"):
        parse_categories("many")


@pytest.mark.parametrize(
    ("system", "name", "value", "message"),
    [
        ("base", "z_size", 128, "--z-size 128: system base does not use"),  # also its default
        ("base", "gamma_z", 1.0, "--gamma-z 1.0: system base does not use"),
        ("latent", "categories", "64", "--categories 64: system latent does not use"),
    ],
)
def test_an_option_that_the_system_does_not_use_is_refused(tmp_path, system, name, value, message):
    given = {**GIVEN, "system": system}
    with pytest.raises(OptionError, match=message):
        resolve({**given, name: value}, None)
    file = tmp_path / "options.yaml"
    file.write_text(f"{name}: {value}\n")
    with pytest.raises(OptionError, match=f"options.yaml.*: system {system} does not use") as error:
        resolve(given, file)
    assert str(error.value).endswith(f"it is for {', '.join(USERS[name])}")


def test_a_run_records_only_what_its_system_uses():
    values = resolve({**GIVEN, "system": "base"}, None).to_json()
    assert {"hidden", "batch_size", "cache"} <= set(values)
    assert not {"z_size", "categories", "annealing", "gamma_z"} & set(values)


def test_an_older_record_with_all_options_is_read(tmp_path):
    options = resolve({**GIVEN, "system": "base", "hidden": 7}, None)
    defaults = {f.name: default_of(f, "multispace") for f in fields(ModelOptions)}
    file = tmp_path / "config.json"
    record = {**defaults, **options.to_json(), "run": str(tmp_path)}
    file.write_text(json.dumps({"options": record}))
    assert resolve({"run": "r"}, file) == options
    # A run of an earlier version may record what it was given and did not use; resume goes on.
    file.write_text(json.dumps({"options": {**record, "z_size": 12}}))
    resumed = resolve({"run": str(tmp_path)}, None, resume=True)
    assert (resumed.hidden, "z_size" in resumed.to_json()) == (7, False)
    with pytest.raises(OptionError, match="--z-size 12 .*config.json.*: system base"):
        resolve({"run": "r"}, file)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_preset_fits_every_system(system):
    for preset, common in PRESETS.items():
        options = resolve({**GIVEN, "system": system}, None, preset=preset).to_json()
        values = preset_options(preset, system)
        assert {name: options[name] for name in values} == values
        assert set(common) & set(options) <= set(values)


def test_a_preset_may_differ_between_systems():
    of = {
        system: resolve({**GIVEN, "system": system}, None, preset="flickr8k")
        for system in ("base", "multispace", "joint", "joint-cvae")
    }
    assert {options.epochs for options in of.values()} == {18}
    assert (of["joint"].scale_c, of["joint"].capacity_z_max) == (1.0, 400.0)
    assert (of["joint-cvae"].categories, of["joint-cvae"].capacity_z_max) == ((16,) * 8, 0.0)
    assert of["multispace"].scale_c is of["base"].scale_c is None
    over = resolve({**GIVEN, "system": "joint", "scale_c": 2.0}, None, preset="flickr8k")
    assert over.scale_c == 2.0


def test_every_option_has_help_and_a_heading():
    for known, declared in declared_options(TrainOptions):
        assert declared.help, known.name
        assert declared.group in GROUPS or declared.common or declared.argument, known.name
    assert {f.name for f in fields(TrainOptions)} == {
        f.name for f, _ in declared_options(TrainOptions)
    }
