import json
from pathlib import Path

import pytest

from multispace.errors import OptionError
from multispace.pipeline.training.train_options import TrainOptions, parse_categories, resolve

GIVEN = {"system": "latent", "cache": "c", "run": "r"}


def test_the_command_line_goes_over_the_file(tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text("batch-size: 64\nhidden: 32\nlearning_rate: 1\n")
    options = resolve({**GIVEN, "hidden": 48}, file)
    assert (options.batch_size, options.hidden, options.learning_rate) == (64, 48, 1.0)
    assert (options.cache, options.run) == (Path("c"), Path("r"))


def test_options_survive_json(tmp_path):
    options = resolve({**GIVEN, "categories": "16x8", "steps": 5}, None)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"options": options.to_json(), "versions": {}}))
    assert resolve({}, file) == options


def test_steps_and_epochs_take_each_others_place(tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text("epochs: 3\n")
    options = resolve({**GIVEN, "steps": 9}, file)
    assert (options.steps, options.epochs) == (9, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hiden: 3", "unknown option 'hiden'; did you mean hidden?"),
        ("hidden: many", "hidden is 'many', expected int"),
        ("hidden: true", "hidden is True, expected int"),
        ("tie_embeddings: 1", "tie_embeddings is 1, expected bool"),
        ("hidden: [1", "not readable"),
        ("just text", "expected names and values"),
    ],
)
def test_faults_of_a_file_are_named(tmp_path, text, message):
    file = tmp_path / "options.yaml"
    file.write_text(text)
    with pytest.raises(OptionError) as caught:
        resolve(GIVEN, file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 1, "steps": 1}, "--epochs and --steps"),
        ({"batch_size": 0}, "--batch-size 0: it must be at least 1"),
        ({"learning_rate": 0.0}, "--learning-rate 0.0: it must be above 0"),
        ({"select": "bleu"}, "--select bleu: use one of cider, loss"),
        ({"system": "gan"}, "'gan': use one of base, latent, multispace"),
        ({"temperature": 0.0}, "--temperature 0.0: it must be above 0"),
        (
            {"capacity_z_min": 9.0, "capacity_z_max": 3.0},
            "--capacity-z-min 9.0 and --capacity",
        ),
        ({"categories": (1,)}, "each variable needs 2 or more"),
        ({"dropout": 1.0}, "--dropout 1.0: it must be below 1"),
        ({"learning_rate": float("nan")}, "--learning-rate nan: it must be a finite number"),
        ({"ema": 1.0}, "--ema 1.0: it must be below 1"),
        ({"patience": 0}, "--patience 0: it must be at least 1"),
        ({"lr_min": 1e-5}, "--lr-min 1e-05 and --lr-schedule constant"),
        ({"lr_schedule": "linear", "lr_min": 1.0}, "--lr-min 1.0 and --learning-rate 0.001"),
        ({"free_bits": 0.1, "system": "multispace"}, "--free-bits 0.1 and system multispace"),
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
