"""The finished trials of a search, and what is suggested after them."""

import contextlib
import math
import shutil
import sqlite3
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="needs Optuna: pip install '.[tune]'")

from multispace.errors import PipelineError
from multispace.pipeline.command_options.tune_options import TuneRequest
from multispace.pipeline.tuning.resolution import resolve_search
from multispace.pipeline.tuning.study import (
    COMPLETE,
    FAILED,
    PRUNED,
    STORAGE,
    FinishedTrial,
    Study,
)


def open_study(folder, system="base", **given) -> Study:
    folder.mkdir(exist_ok=True)
    given = {"system": system, "cache": "c", "run": str(folder), **given}
    return Study(resolve_search(given, TuneRequest(budget=8)))


def score(parameters) -> float:
    """Return a score that is highest at a learning rate of 0.003."""
    return -abs(math.log(parameters["learning_rate"] / 3e-3))


def fill(study: Study, last: int) -> list[FinishedTrial]:
    """Finish trials until ``last`` of them are."""
    for number in range(len(study.trials), last):
        parameters = study.suggest(number)
        state = (COMPLETE, COMPLETE, PRUNED, FAILED)[number % 4]
        value = None if state == FAILED else score(parameters)
        study.add(FinishedTrial(number, state, value, parameters, {2: -5.0}))
    return study.trials


def test_an_interrupted_search_suggests_what_a_whole_one_does(tmp_path):
    whole = fill(open_study(tmp_path / "whole"), 13)
    for last in (1, 11, 13):
        parts = fill(open_study(tmp_path / "parts"), last)
    assert parts == whole
    assert [trial.number for trial in whole] == list(range(13))
    other = fill(open_study(tmp_path / "seed", seed=1), 2)
    assert other[0] == whole[0]
    assert other[1] != whole[1]


def test_a_suggestion_leaves_no_trace(tmp_path):
    study = open_study(tmp_path / "tune")
    fill(study, 3)
    before = (tmp_path / "tune" / STORAGE).read_bytes()
    assert study.suggest(3) == study.suggest(3) != study.suggest(4)
    assert (tmp_path / "tune" / STORAGE).read_bytes() == before


def test_the_first_trial_has_the_defaults(tmp_path):
    first = open_study(tmp_path / "tune").suggest(0)
    assert first == {"dropout": 0.0, "word_dropout": 0.0, "label_smoothing": 0.0,
                     "learning_rate": 0.001, "lr_schedule": "constant"}  # fmt: skip


def test_later_trials_are_drawn_where_earlier_ones_were_good(tmp_path):
    trials = fill(open_study(tmp_path / "tune"), 20)
    early, late = (
        sum(score(trial.parameters) for trial in part) / len(part)
        for part in (trials[1:11], trials[12:])
    )
    assert late > early


def test_a_trial_survives_the_file(tmp_path):
    added = [
        FinishedTrial(0, COMPLETE, 0.1 + 0.2, {}, {2: 0.1, 4: 0.1 + 0.2}),
        FinishedTrial(1, PRUNED, 0.2, {}, {2: 0.2}),
        FinishedTrial(2, FAILED, None, {}, {}, "kl_z is nan at step 3"),
    ]
    study = open_study(tmp_path / "odd ?#% name")
    for trial in added:
        parameters = study.suggest(trial.number)
        study.add(FinishedTrial(**{**vars(trial), "parameters": parameters}))
    again = open_study(tmp_path / "odd ?#% name").trials
    assert [vars(t) | {"parameters": {}} for t in again] == [vars(t) for t in added]
    assert [t.parameters for t in again] == [t.parameters for t in study.trials]
    assert (tmp_path / "odd ?#% name" / STORAGE).is_file()


@pytest.mark.parametrize(("select", "expected"), [("cider", 2), ("loss", 0)])
def test_the_best_trial_is_the_first_of_the_complete_ones(tmp_path, select, expected):
    study = open_study(tmp_path / "tune", select=select)
    assert study.best() is None
    values = [(COMPLETE, 1.0), (COMPLETE, 2.0), (COMPLETE, 3.0), (COMPLETE, 3.0),
              (COMPLETE, 1.0), (PRUNED, 9.0), (PRUNED, 0.1), (FAILED, None)]  # fmt: skip
    first = study.suggest(0)
    for number, (state, value) in enumerate(values):
        study.add(FinishedTrial(number, state, value, first))
    assert study.best().number == expected


@pytest.mark.parametrize(("select", "sign"), [("cider", 1.0), ("loss", -1.0)])
def test_a_trial_below_the_median_is_poor(tmp_path, select, sign):
    study = open_study(tmp_path / "tune", select=select)
    first = study.suggest(0)

    def is_poor(**values: float) -> bool:
        return study.is_poor(first, {int(k[1:]): sign * v for k, v in values.items()})

    for number, value in enumerate((1, 2, 3, 4)):
        study.add(
            FinishedTrial(number, COMPLETE, sign * value, first, {2: sign * value, 4: sign * 9})
        )
    assert not is_poor(_2=0.0)  # too few trials to judge by
    study.add(FinishedTrial(4, COMPLETE, sign * 5, first, {2: sign * 5, 4: sign * 9}))
    study.add(FinishedTrial(5, PRUNED, sign * 0, first, {2: sign * 0}))
    assert is_poor(_2=2.9)
    assert not is_poor(_2=3.0)
    assert not is_poor(_2=9.5, _4=0.0)  # its best validation counts
    assert is_poor(_2=3.5, _4=8.0)
    assert not is_poor(_3=0.0)  # nothing to compare with


@pytest.mark.parametrize("content", [b"garbage" * 999, b"SQLite format 3\0" + bytes(5000)])
def test_a_damaged_file_is_one_error(tmp_path, content):
    folder = tmp_path / "tune"
    folder.mkdir()
    (folder / STORAGE).write_bytes(content)
    with pytest.raises(PipelineError, match=r"tune\.db: not usable \(.*; restore the file, or beg"):
        open_study(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a study with a complete and a failed trial."""
    folder = tmp_path_factory.mktemp("finished") / "tune"
    study = open_study(folder)
    first = study.suggest(0)
    study.add(FinishedTrial(0, COMPLETE, 1.0, first, {2: 1.0}))
    study.add(FinishedTrial(1, FAILED, None, first, {}, "total is nan"))
    assert len(study.trials) == 2
    return folder


@pytest.mark.parametrize(
    "change",
    [
        "update trials set state = 'ODD'",
        "update trials set state = 'RUNNING'",
        "update trials set number = number + 1",
        "update trial_values set value = null, value_type = 'INF_POS'",
        "delete from trial_values",
        "update trial_intermediate_values set intermediate_value = 9e999",
        "update trial_params set param_name = 'x' where param_name = 'dropout'",
        "delete from trial_params where param_name = 'dropout'",
        "update trial_params set param_value = 0.9 where param_name = 'dropout'",
        "update trial_params set param_value = 'x' where param_name = 'dropout'",
        "update trial_params set param_value = 7 where param_name = 'lr_schedule'",
        "update trial_params set distribution_json = '[]'",
        "update trial_params set distribution_json = '{'",
        "update trial_user_attributes set value_json = '[1]'",
        "update alembic_version set version_num = 'none'",
        "drop table trial_params",
    ],
)
def test_a_changed_file_is_one_error(finished, tmp_path, change):
    shutil.copytree(finished, tmp_path / "tune")
    with contextlib.closing(sqlite3.connect(tmp_path / "tune" / STORAGE)) as file:
        file.execute(change)
        file.commit()
    with pytest.raises(PipelineError, match=r"tune\.db: not usable \("):
        open_study(tmp_path / "tune").trials  # noqa: B018


def test_nothing_is_written_through_a_link(tmp_path):
    folder = tmp_path / "tune"
    folder.mkdir()
    (folder / STORAGE).symlink_to(tmp_path / "theirs")
    with pytest.raises(PipelineError, match=r"tune\.db: is a symbolic link"):
        open_study(folder)
    assert not (tmp_path / "theirs").exists()
