"""From the command line to a search: a new one, or the one that is in the run folder."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from multispace.errors import OptionError, PipelineError
from multispace.fields import Choices, Searched, declared_options, flag, shown_value
from multispace.pipeline.command_options.train_options import TrainOptions, resolve
from multispace.pipeline.command_options.tune_options import (
    BEST,
    LENGTH,
    TRIALS,
    VALIDATIONS,
    TuneRequest,
)
from multispace.pipeline.tuning.search import FORMAT, RECORD, Search, words

# Options that may change on resuming: they make no difference to the result of a trial.
FREE_ON_RESUME = ("cache", "run", "device", "log_every", "save_every")


def resolve_search(given: Mapping[str, Any], request: TuneRequest) -> Search:
    """Return the search that the command line asks for: a new one, or one to continue.

    :param given: the options of the trials that were given; they are fixed and not searched
    :raises OptionError: an option cannot be used, or is not that of the search to continue.
    :raises PipelineError: the record of the search is damaged.
    """
    for name in LENGTH:
        if name in given:
            raise OptionError(
                "a search has no such option",
                where=flag(name),
                hint="--budget and --validations set the length of a trial",
            )
    record = Path(given["run"]) / RECORD
    if request.resume and record.exists():
        return _continued(given, request, record)
    if request.budget is None:
        raise OptionError("--budget is missing", hint="give it")
    validations = request.validations or VALIDATIONS
    start = _start(given, request, request.budget, validations, request.config)
    search = Search(
        start=start,
        searched=_searched(start, given),
        trials=request.trials or TRIALS,
        validations=validations,
        keep=request.keep or BEST,
    )
    _check(search)
    return search


def _start(
    given: Mapping[str, Any],
    request: TuneRequest,
    budget: int,
    validations: int,
    config: Path | None,
) -> TrainOptions:
    """Return the options of the first trial."""
    if validations > budget:
        raise OptionError(
            f"a trial has {budget} steps",
            where=f"--validations {validations}",
            hint="give at most one validation a step",
        )
    length = {"steps": budget, "validate_every": math.ceil(budget / validations), "patience": None}
    start = resolve({**given, **length}, config, preset=request.preset)
    for name in ("train_split", "val_split"):
        if (split := getattr(start, name)) == "test":
            raise OptionError(
                "a search must not see the test split",
                where=f"{flag(name)} {split}",
                hint="choose another split",
            )
    return start


def _searched(start: TrainOptions, given: Mapping[str, Any]) -> dict[str, Searched]:
    """Return the values that are tried, by option, for a first trial and what was given."""
    searched = {}
    for known, declared in declared_options(TrainOptions):
        values = declared.search_in(start.system)
        if values is None or known.name in given:
            continue
        if declared.requires and getattr(start, declared.requires[0]) not in declared.requires[1:]:
            continue  # without effect
        searched[known.name] = values
    return searched


def _check(search: Search) -> None:
    """Check that the first trial is in the search, and that every value goes with the others."""
    if not search.searched:
        raise OptionError(
            "every option is given, and nothing is left to search",
            where=search.start.system,
            hint="leave out those that the search may change",
        )
    for name, values in search.searched.items():
        hint = f"give {flag(name)} on the command line to fix it"
        start = getattr(search.start, name)
        if isinstance(values, Choices):
            ends, inside = values.values, start in values.values
        else:
            ends, inside = values[:2], values.low <= start <= values.high
        if not inside:
            raise OptionError(
                f"outside the values that are searched, {words(values)}",
                where=f"{flag(name)} {shown_value(start)}",
                hint=hint,
            )
        for value in ends:
            try:
                replace(search.start, **{name: value})
            except OptionError as error:
                raise OptionError(
                    f"{words(values)} is searched, which the other options do not allow "
                    f"({error.where}: {error.what})",
                    where=flag(name),
                    hint=hint,
                ) from error


def _continued(given: Mapping[str, Any], request: TuneRequest, record: Path) -> Search:
    """Return the search that was begun, if it is the one that the command line asks for."""
    begun = FORMAT.read_json(record)
    options = begun["options"]
    if (system := given.get("system")) not in (None, options.get("system")):
        raise _other("system", system, options.get("system"), record)
    for name in given:
        if name in begun["searched"]:
            raise OptionError(
                f"{record.parent} searches this option",
                where=flag(name),
                hint="leave it out, or choose another --run",
            )
    budget = request.budget or options.get("steps")
    if not isinstance(budget, int):
        raise PipelineError("options.steps is missing", where=record, hint=FORMAT.hint)
    validations = request.validations or begun["validations"]
    start = _start(given, request, budget, validations, request.config or record)
    _check_same(start, validations, begun, record)
    searched = {
        name: values for name, values in _searched(start, {}).items() if name in begun["searched"]
    }
    search = Search(
        start=start,
        searched=searched,
        trials=request.trials or begun["trials"],
        validations=validations,
        keep=request.keep or begun["keep"],
        begun=begun["begun"],
    )
    if _as_read(search.to_json()["searched"]) != begun["searched"]:
        raise PipelineError(
            "the values that are searched are those of another version",
            where=record,
            hint="continue with that version, or begin a new search in another folder",
        )
    _check(search)
    return search


def _check_same(
    start: TrainOptions, validations: int, begun: Mapping[str, Any], record: Path
) -> None:
    """Refuse options that would make it another search."""
    options = begun["options"]
    if start.steps != options.get("steps"):
        raise _other("budget", start.steps, options.get("steps"), record)
    if validations != begun["validations"]:
        raise _other("validations", validations, begun["validations"], record)
    for name, value in _as_read(start.to_json()).items():
        if name not in FREE_ON_RESUME and options.get(name) != value:
            raise _other(name, value, options.get(name), record)


def _other(name: str, value: Any, before: Any, record: Path) -> OptionError:
    return OptionError(
        f"{record.parent} was begun with {shown_value(before)}",
        where=f"{flag(name)} {shown_value(value)}",
        hint="resume it with the same value, or choose another --run",
    )


def _as_read(value: dict[str, Any]) -> Any:
    """Return plain values as they come out of a JSON file."""
    return json.loads(json.dumps(value))
