"""The finished trials of a search in an Optuna study, which suggests the next one.

The study is an SQLite file in the folder of the search. A trial is added when it is finished, in
one transaction. The suggestion for a trial is a function of the seed, its number and the finished
trials: a search that was interrupted, at any moment, continues as if it had not been.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from multispace.errors import OptionError, PipelineError, brief
from multispace.fields import Range, Searched
from multispace.pipeline.runs.run_lock import check_no_link
from multispace.pipeline.tuning.search import Search
from multispace.version import install_hint

try:
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
    )
    from optuna.trial import FrozenTrial, TrialState, create_trial
    from sqlalchemy.engine import URL
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as error:
    raise OptionError("tune needs Optuna", hint=install_hint("tune")) from error

STORAGE = "tune.db"
NAME = "tune"
COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
STATES = {
    COMPLETE: TrialState.COMPLETE,
    PRUNED: TrialState.PRUNED,
    FAILED: TrialState.FAIL,
}
REASON = "reason"  # the user attribute of a failed trial
# What Optuna and SQLAlchemy raise for a file that is damaged or of another version.
_UNREADABLE = (
    SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError, ValueError, LookupError, TypeError
)  # fmt: skip


@dataclass(frozen=True)
class FinishedTrial:
    """A finished trial.

    :param state: ``complete``, ``pruned`` or ``failed``
    :param value: the best validation score; None of a failed trial
    :param validations: the validation score by step
    :param reason: why the trial failed
    """

    number: int
    state: str
    value: float | None
    parameters: Mapping[str, Any]
    validations: Mapping[int, float] = field(default_factory=dict)
    reason: str | None = None


class Study:
    """The finished trials of a search."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._direction: Literal["minimize", "maximize"] = (
            "minimize" if search.start.select == "loss" else "maximize"
        )
        self._distributions = {
            name: _distribution(search, name, values) for name, values in search.searched.items()
        }
        self._pruner = optuna.pruners.MedianPruner()
        self._path = search.folder / STORAGE
        check_no_link(self._path)
        # SQLAlchemy would read a part of some paths as parameters of the connection.
        url = URL.create("sqlite", database=str(self._path.resolve()))
        with self._used():
            self._study = optuna.create_study(
                storage=url.render_as_string(),
                study_name=NAME,
                direction=self._direction,
                load_if_exists=True,
            )

    @property
    def trials(self) -> list[FinishedTrial]:
        """The finished trials in their order."""
        with self._used():
            found = self._study.get_trials(deepcopy=False)
            return [self._finished(number, trial) for number, trial in enumerate(found)]

    def add(self, trial: FinishedTrial) -> None:
        """Add a finished trial; its number is that of the trials before it."""
        with self._used():
            self._study.add_trial(self._frozen(STATES[trial.state], trial))

    def suggest(self, number: int) -> dict[str, Any]:
        """Return the parameters of a trial: the start of the search, then those of TPE.

        :param number: of the trial; all trials before it are finished
        """
        if number == 0:
            return self._search.first()
        seed = np.random.SeedSequence([self._search.start.seed, number]).generate_state(1)[0]
        with self._used():
            # A copy in memory, so that a trial that is interrupted leaves no trace in the file.
            copy = optuna.create_study(
                direction=self._direction, sampler=optuna.samplers.TPESampler(seed=int(seed))
            )
            copy.add_trials(self._study.get_trials(deepcopy=False))
            return self._search.rounded(copy.ask(self._distributions).params)

    def is_poor(self, parameters: Mapping[str, Any], validations: Mapping[int, float]) -> bool:
        """Return whether a trial should end early.

        Its best validation so far is worse than the median of the complete trials at the same
        step; at least five trials must be complete.

        :param validations: of the trial, by step
        """
        trial = FinishedTrial(0, COMPLETE, None, parameters, validations)
        with self._used():
            return self._pruner.prune(self._study, self._frozen(TrialState.RUNNING, trial))

    def best(self) -> FinishedTrial | None:
        """Return the complete trial with the best score, the first of equal ones."""
        complete = [trial for trial in self.trials if trial.state == COMPLETE]
        choose: Callable[..., FinishedTrial] = min if self._direction == "minimize" else max
        return choose(complete, key=lambda trial: trial.value, default=None)

    def _frozen(self, state: Any, trial: FinishedTrial) -> FrozenTrial:
        return create_trial(
            state=state,
            value=trial.value,
            params=dict(trial.parameters),
            distributions=self._distributions,
            intermediate_values=dict(trial.validations),
            user_attrs={} if trial.reason is None else {REASON: trial.reason},
        )

    def _finished(self, number: int, trial: FrozenTrial) -> FinishedTrial:
        """Return a trial that was read, whose file may come from anywhere.

        :raises ValueError: it is not a trial of this search.
        """
        state = {state: name for name, state in STATES.items()}[trial.state]
        reason = trial.user_attrs.get(REASON)
        scores = [*trial.intermediate_values.values(), *([] if state == FAILED else [trial.value])]
        if not (
            trial.number == number
            and self._search.has(trial.params)
            and all(isinstance(score, float) and math.isfinite(score) for score in scores)
            and isinstance(reason, str | None)
        ):
            raise ValueError(f"trial {number} is not one of this search")
        value = None if state == FAILED else trial.value
        return FinishedTrial(number, state, value, trial.params, trial.intermediate_values, reason)

    @contextmanager
    def _used(self) -> Iterator[None]:
        """Silence Optuna's log, and name the file where it cannot be used."""
        level = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            yield
        except _UNREADABLE as error:
            raise PipelineError(
                f"not usable ({brief(error, 200)})",
                where=self._path,
                hint="restore the file, or begin a new search in another folder",
            ) from error
        finally:
            optuna.logging.set_verbosity(level)


def _distribution(search: Search, name: str, values: Searched) -> BaseDistribution:
    if isinstance(values, Range):
        return FloatDistribution(values.low, values.high, log=values.log)
    return CategoricalDistribution([search.parameter(name, value) for value in values.values])
