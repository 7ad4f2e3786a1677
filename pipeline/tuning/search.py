"""A search: the options of its first trial, the values that it tries, and its record on disk."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from multispace.data.documents import (
    DocumentFormat,
    Integer,
    Kind,
    MapOf,
    Object,
    Text,
)
from multispace.errors import PipelineError
from multispace.fields import Choices, Range, Searched, flag, shown_value
from multispace.pipeline.command_options.train_options import TrainOptions
from multispace.pipeline.command_options.tune_options import ALL, BEST
from multispace.pipeline.console.table import text_table
from multispace.pipeline.runs.run_folder import OPTION_VALUE

RECORD = "tune.json"
TRIAL_FOLDER = "trials"
DIGITS = 3  # significant digits of a drawn number: the same on machines that round differently

FORMAT = DocumentFormat(
    Object(
        {
            "options": MapOf(OPTION_VALUE, max_items=1000),
            "searched": Object(others=Kind()),  # compared as a whole
            "trials": Integer(min=1, max=1 << 20),
            "validations": Integer(min=1),
            "keep": Text(choices=(BEST, ALL)),
            "begun": Integer(min=0, max=1 << 20),
        }
    ),
    error=PipelineError,
    hint="restore the file, or begin a new search in another folder",
    max_bytes=1 << 20,
    max_depth=8,
)


@dataclass(frozen=True)
class Search:
    """A search for the options of a system.

    :param start: the options of the first trial; their ``run`` is the folder of the search
    :param searched: the values that are tried, by option
    :param trials: how many there are to be
    :param validations: of each trial
    :param keep: whether the ``best`` trial keeps its checkpoints, or ``all`` do
    :param begun: how many trials have been begun; their folders belong to the search
    """

    start: TrainOptions
    searched: Mapping[str, Searched]
    trials: int
    validations: int
    keep: str
    begun: int = 0

    @property
    def folder(self) -> Path:
        """The folder of the search."""
        return self.start.run

    @property
    def budget(self) -> int:
        """Optimizer steps of a trial."""
        return self.start.steps or 0

    def run_of(self, number: int) -> Path:
        """Return the run folder of a trial."""
        return self.folder / TRIAL_FOLDER / f"{number:04d}"

    def first(self) -> dict[str, Any]:
        """Return the parameters of the first trial."""
        return {name: self.parameter(name, getattr(self.start, name)) for name in self.searched}

    def parameter(self, name: str, value: Any) -> Any:
        """Return the value of an option as a parameter: a number, or the text of a choice."""
        return float(value) if isinstance(self.searched[name], Range) else shown_value(value)

    def has(self, parameters: Mapping[str, Any]) -> bool:
        """Return whether parameters are those of a trial: all of them, inside their ranges."""
        return parameters.keys() == self.searched.keys() and all(
            isinstance(value, float) and values.low <= value <= values.high
            if isinstance(values := self.searched[name], Range)
            else value in map(shown_value, values.values)
            for name, value in parameters.items()
        )

    def rounded(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters with numbers of few digits, inside their ranges."""
        return {name: self._rounded(name, value) for name, value in parameters.items()}

    def _rounded(self, name: str, value: Any) -> Any:
        values = self.searched[name]
        if isinstance(values, Choices):
            return value
        return min(max(float(f"{value:.{DIGITS}g}"), values.low), values.high)

    def options(self, parameters: Mapping[str, Any], number: int) -> TrainOptions:
        """Return the options of a trial.

        :param parameters: by option, as :meth:`parameter` has them
        """
        chosen = {name: self._value(name, value) for name, value in parameters.items()}
        return replace(self.start, run=self.run_of(number), **chosen)

    def changed(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a trial that differ from those of the first."""
        values = {name: self._value(name, value) for name, value in parameters.items()}
        return {name: v for name, v in values.items() if v != getattr(self.start, name)}

    def _value(self, name: str, parameter: Any) -> Any:
        values = self.searched[name]
        if isinstance(values, Range):
            return parameter
        return next(value for value in values.values if shown_value(value) == parameter)

    def to_json(self) -> dict[str, Any]:
        """Return the record of the search as plain values."""
        return {
            "options": self.start.to_json(),
            "searched": {name: _plain(values) for name, values in self.searched.items()},
            "trials": self.trials,
            "validations": self.validations,
            "keep": self.keep,
            "begun": self.begun,
        }

    def render(self) -> str:
        """Return a table of the values that are tried."""
        rows = [
            [flag(name), words(values), shown_value(getattr(self.start, name))]
            for name, values in self.searched.items()
        ]
        return text_table(["option", "values", "first trial"], rows)

    @property
    def notes(self) -> tuple[str, ...]:
        """How long the search is."""
        return (
            f"{self.trials} trials of at most {self.budget} steps, validated every "
            f"{self.start.validate_every} steps",
        )


def _plain(values: Searched) -> dict[str, Any]:
    if isinstance(values, Range):
        return values._asdict()
    return {"choices": [shown_value(value) for value in values.values]}


def words(values: Searched) -> str:
    """Return the values that are tried as text for people."""
    if isinstance(values, Choices):
        return ", ".join(map(shown_value, values.values))
    return f"{values.low:g} to {values.high:g}{' (log)' if values.log else ''}"
