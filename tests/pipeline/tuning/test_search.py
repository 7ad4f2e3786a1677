"""What a search tries, from where it starts, and how it is continued."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from support.hostile import altered

from multispace.cli import main
from multispace.errors import Error, OptionError, PipelineError
from multispace.fields import Choices, Range, declared_options, default_of, value_type
from multispace.model.options import SYSTEMS, is_used
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.command_options.tune_options import LENGTH, TuneRequest
from multispace.pipeline.tuning.resolution import resolve_search
from multispace.pipeline.tuning.search import RECORD, Search

COMMON = {"dropout", "word_dropout", "label_smoothing", "learning_rate", "lr_schedule"}
CAPACITIES = {"gamma_z", "gamma_c", "capacity_z_max", "capacity_c_max"}
ANNEALING = {"annealing_midpoint", "annealing_slope", "free_bits", "kl_weight"}


def search(tmp_path, system="joint", request=None, **given) -> Search:
    given = {"system": system, "cache": "c", "run": str(tmp_path / "tune"), **given}
    return resolve_search(given, request or TuneRequest(budget=100))


def record(found: Search) -> None:
    found.folder.mkdir()
    (found.folder / RECORD).write_text(json.dumps(found.to_json()))


@pytest.mark.parametrize(
    ("system", "own"),
    [
        ("base", set()),
        ("latent", ANNEALING),
        ("multispace", CAPACITIES | {"categories", "temperature"}),
        ("joint", CAPACITIES | {"categories", "temperature", "latent_dropout"}),
        ("beta-cvae", {"gamma_z", "capacity_z_max"}),
        ("ag-cvae", ANNEALING | {"prior_deviation"}),
    ],
)
def test_a_system_searches_its_own_options_and_those_of_all(tmp_path, system, own):
    assert set(search(tmp_path, system).searched) == COMMON | own


def test_no_search_changes_what_a_step_costs():
    sizes = ("batch_size", "embedding", "hidden", "layers", "cell", "z_size", "clusters")
    for known, declared in declared_options(TrainOptions):
        if known.name in sizes:
            assert declared.search is None, known.name


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_corner_of_a_space_is_a_set_of_options(tmp_path, system):
    found = search(tmp_path, system)
    for low in (True, False):
        parameters = {
            name: (values.low if low else values.high)
            if isinstance(values, Range)
            else found.parameter(name, values.values[0 if low else -1])
            for name, values in found.searched.items()
        }
        assert found.options(parameters, 3).run == found.folder / "trials" / "0003"
    assert found.options(found.first(), 0) == dataclasses.replace(found.start, run=found.run_of(0))
    assert found.changed(found.first()) == {}


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_default_is_in_its_space(system):
    for known, declared in declared_options(TrainOptions):
        values = declared.search_in(system)
        if values is None:
            assert not is_used(known.name, system) or declared.search is None
            continue
        default = default_of(known, system)
        if isinstance(values, Range):
            assert values.low <= default <= values.high, known.name
            assert value_type(known) is float
            assert not values.log or values.low > 0
        else:
            assert default in values.values, known.name


def test_no_option_that_is_searched_needs_a_value_of_another_one_that_is():
    named = {known.name: declared for known, declared in declared_options(TrainOptions)}
    for declared in named.values():
        if declared.search is not None and declared.requires:
            assert named[declared.requires[0]].search is None


def test_an_option_that_is_given_is_fixed(tmp_path):
    found = search(tmp_path, gamma_z=0.5, dropout=0.9)
    assert not {"gamma_z", "dropout"} & set(found.searched)
    assert found.options(found.first(), 0).gamma_z == 0.5


def test_an_option_without_effect_is_not_searched(tmp_path):
    found = search(tmp_path, "latent", annealing="linear")
    assert set(found.searched) == COMMON | {"free_bits", "kl_weight"}


def test_a_config_and_a_preset_set_the_first_trial_and_are_searched(tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text("dropout: 0.2\nepochs: 7\npatience: 2\n")
    request = TuneRequest(budget=90, validations=4, config=file, preset="fast")
    found = search(tmp_path, request=request)
    start = found.start
    assert (start.dropout, start.learning_rate, start.hidden) == (0.2, 2e-3, 256)
    assert (start.steps, start.epochs, start.patience, start.validate_every) == (90, None, None, 23)
    assert {"dropout", "learning_rate"} <= set(found.searched)


def test_the_options_that_the_budget_replaces_are_not_offered(tmp_path):
    train, tuned = ({p.name for p in main.commands[name].params} for name in ("train", "tune"))
    assert train - tuned == {*LENGTH, "wandb", "wandb_images"}
    for name, value in zip(LENGTH, (3, 30, 4, 2), strict=True):
        with pytest.raises(OptionError, match=f"--{name.replace('_', '-')}: a search has no such"):
            search(tmp_path, **{name: value})


@pytest.mark.parametrize(
    ("request_", "given", "message"),
    [
        ({}, {}, "--budget is missing"),
        ({"budget": 3}, {}, "--validations 4: a trial has 3 steps"),
        ({"budget": 9}, {"val_split": "test"}, "--val-split test: a search must not see"),
        ({"budget": 9}, {"train_split": "test"}, "--train-split test: a search must not see"),
        ({"budget": 9}, {"system": "gan"}, "gan: use one of base"),
        ({"budget": 9}, {"system": "base", "gamma_z": 1.0}, "system base does not use"),
        ({"budget": 9}, {"single_caption": "categories", "categories": (32,)}, None),
        ({"budget": 9}, {"single_caption": "categories"}, "--single-caption categories: it needs"),
        ({"budget": 9}, {"temperature_rate": 0.1},
         "--temperature: 0.3 to 1.5 (log) is searched, which the other options do not allow"),
        ({"budget": 9}, {"system": "base", "dropout": 0.0, "word_dropout": 0.0,
                         "label_smoothing": 0.0, "learning_rate": 1e-3,
                         "lr_schedule": "constant"}, "base: every option is given"),
        ({"budget": 9}, {"capacity_z_min": 200.0}, "give --capacity-z-max on the command line"),
    ],
)  # fmt: skip
def test_a_search_that_cannot_be_is_refused_before_it_begins(tmp_path, request_, given, message):
    request = TuneRequest(**request_)
    if message is None:
        search(tmp_path, request=request, **given)
        return
    with pytest.raises(OptionError) as caught:
        search(tmp_path, request=request, **given)
    assert message in str(caught.value)


def test_a_start_outside_of_the_space_is_refused(tmp_path):
    file = tmp_path / "options.yaml"
    for text, message in (
        ("learning_rate: 0.5", "--learning-rate 0.5: outside the values that are searched, 0.0003"),
        ("categories: 5x2", "--categories 5x2: outside the values that are searched, 32, 128, 16x"),
    ):
        file.write_text(text)
        with pytest.raises(OptionError) as caught:
            search(tmp_path, request=TuneRequest(budget=9, config=file))
        assert message in str(caught.value)
        assert "on the command line to fix it" in caught.value.hint


def test_drawn_numbers_have_few_digits_and_stay_in_their_range(tmp_path):
    found = search(tmp_path)
    drawn = {"learning_rate": 0.0012345678, "dropout": 0.49999, "gamma_c": 0.00500001,
             "categories": "16x8"}  # fmt: skip
    assert found.rounded(drawn) == {"learning_rate": 0.00123, "dropout": 0.5, "gamma_c": 0.005,
                                    "categories": "16x8"}  # fmt: skip
    narrow = dataclasses.replace(found, searched={"x": Range(0.12345, 0.12346)})
    assert narrow.rounded({"x": 0.123455}) == {"x": 0.12345}


def test_a_search_is_continued_from_its_record(tmp_path):
    begun = dataclasses.replace(search(tmp_path, hidden=16, gamma_c=0.7), begun=3)
    record(begun)
    assert search(tmp_path, request=TuneRequest(resume=True), cache="c") == begun
    longer = search(tmp_path, request=TuneRequest(resume=True, trials=30, keep="all"), hidden=16)
    assert (longer.trials, longer.keep, longer.begun) == (30, "all", 3)
    assert search(tmp_path, request=TuneRequest(resume=True), device="cpu").start.device == "cpu"


def test_where_there_is_no_search_resume_begins_one(tmp_path):
    assert search(tmp_path, request=TuneRequest(resume=True, budget=9)).begun == 0
    with pytest.raises(OptionError, match="--budget is missing"):
        search(tmp_path, request=TuneRequest(resume=True))


@pytest.mark.parametrize(
    ("request_", "given", "message"),
    [
        ({"budget": 101}, {}, "--budget 101: {run} was begun with 100"),
        ({"validations": 5}, {}, "--validations 5: {run} was begun with 4"),
        ({}, {"hidden": 17}, "--hidden 17: {run} was begun with 16"),
        ({}, {"seed": 1}, "--seed 1: {run} was begun with 0"),
        ({}, {"gamma_c": 0.6}, "--gamma-c 0.6: {run} was begun with 0.7"),
        ({}, {"dropout": 0.0}, "--dropout: {run} searches this option"),
        ({}, {"system": "latent"}, "system latent: {run} was begun with joint"),
    ],
)
def test_a_search_is_continued_as_it_was_begun(tmp_path, request_, given, message):
    begun = search(tmp_path, hidden=16, gamma_c=0.7)
    record(begun)
    with pytest.raises(OptionError) as caught:
        search(tmp_path, request=TuneRequest(resume=True, **request_), **given)
    assert str(caught.value).startswith(message.format(run=begun.folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": 0}, "trials is 0"),
        ({"keep": "none"}, "keep is 'none'"),
        ({"begun": None}, "begun is None"),
        ({"more": 1}, "unknown name 'more'"),
        ({"options": {}}, "system"),
        ({"searched": {"dropout": {"low": 0.0, "high": 0.9, "log": False}}}, "another version"),
    ],
)
def test_a_damaged_record_is_one_error(tmp_path, change, message):
    begun = search(tmp_path)
    begun.folder.mkdir()
    (begun.folder / RECORD).write_text(json.dumps({**begun.to_json(), **change}))
    with pytest.raises(PipelineError, match=message):
        search(tmp_path, request=TuneRequest(resume=True))


def check_message(message: str, folder: Path) -> None:
    assert str(folder) in message or message.startswith("--")
    assert "\n" not in message
    assert len(message) < 2000


@settings(deadline=None, derandomize=True, max_examples=50)
@given(data=st.data())
def test_any_change_of_a_record_is_read_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("any")
    begun = search(folder)
    begun.folder.mkdir()
    text = data.draw(altered(begun.to_json()))
    (begun.folder / RECORD).write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        found = search(folder, request=TuneRequest(resume=True))
    except Error as error:
        event("refused")
        check_message(str(error), begun.folder)
    else:
        event("read")
        assert found.options(found.first(), 0).system == "joint"


def test_the_space_is_shown(tmp_path):
    found = search(tmp_path)
    lines = {line.split()[0]: line.split()[1:] for line in found.render().splitlines()}
    assert lines["--learning-rate"] == ["0.0003", "to", "0.01", "(log)", "0.001"]
    assert lines["--categories"] == ["32,", "128,", "16x8,", "8x16", "16x8"]
    assert found.notes == ("20 trials of at most 100 steps, validated every 25 steps",)
    assert json.loads(json.dumps(found.to_json()))["searched"]["lr_schedule"] == {
        "choices": ["constant", "cosine"]
    }


def test_choices_of_a_system_can_differ():
    found = {
        system: declared.search_in(system)
        for known, declared in declared_options(TrainOptions)
        for system in SYSTEMS
        if known.name == "capacity_z_max"
    }
    assert found["joint-cvae"] == Range(0.0, 30.0)
    assert found["joint"] == found["multispace"] == Range(20.0, 600.0, log=True)
    assert found["base"] is None
    kinds = {type(d.search) for _, d in declared_options(TrainOptions)}
    assert kinds == {Range, Choices, type(None)}


def test_each_choice_has_a_text_of_its_own(tmp_path):
    for system in SYSTEMS:
        found = search(tmp_path, system)
        for name, values in found.searched.items():
            if isinstance(values, Choices):
                texts = {found.parameter(name, value) for value in values.values}
                assert len(texts) == len(values.values)
