"""Search for the options of a system: train trials, and write the options of the best one."""

import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import yaml

from multispace.data.cache.reader import Cache
from multispace.data.files import atomic_write, write_json
from multispace.errors import OptionError, PipelineError
from multispace.exit_status import FAILED
from multispace.fields import option_words, shown_value
from multispace.pipeline.cache_transfer import local_cache
from multispace.pipeline.command_options.tune_options import ALL
from multispace.pipeline.console.main_process import process_count
from multispace.pipeline.console.table import text_table
from multispace.pipeline.runs.run_folder import CONFIG
from multispace.pipeline.runs.run_lock import RunLock, check_no_link
from multispace.pipeline.training.resume import check_same_data
from multispace.pipeline.tuning.search import FORMAT, RECORD, TRIAL_FOLDER, Search
from multispace.pipeline.tuning.study import STORAGE, FinishedTrial, Study
from multispace.pipeline.tuning.trial import StoppedTrial, remove_checkpoints, run_trial

BEST_OPTIONS = "best.yaml"


@dataclass(frozen=True)
class TrialResult:
    """A finished trial of a search.

    :param state: ``complete``, ``pruned`` (ended early) or ``failed``
    :param value: its best validation score; None of a failed trial
    :param steps: optimizer steps until the last validation
    :param changed: options that differ from those of the first trial
    :param reason: why it failed
    """

    number: int
    state: str
    value: float | None
    steps: int
    changed: dict[str, Any]
    reason: str | None = None


@dataclass(frozen=True)
class Tuned:
    """Result of a search.

    :param selected_by: the validation score that is optimized
    :param budget: optimizer steps of a trial
    :param best: the number of the best complete trial, if there is one
    :param config: the file of its options, which ``train --config`` reads
    :param seconds: of this command
    :param stopped: name of the signal that ended the search early, if one did
    """

    run: str
    system: str
    selected_by: str
    budget: int
    trials: Sequence[TrialResult]
    best: int | None
    config: str | None
    seconds: float
    stopped: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def render(self) -> str:
        """Return a table of the trials, with the options that they change."""
        rows = [
            [trial.number, trial.state, "-" if trial.value is None else f"{trial.value:.3f}",
             trial.steps]
            for trial in self.trials
        ]  # fmt: skip
        table = text_table(["trial", "state", self.selected_by, "steps"], rows).splitlines()
        width = max(map(len, table))
        changes = ["changed options", *(_words(trial.changed) for trial in self.trials)]
        lines = [
            f"{line:{width}}  {text}".rstrip() for line, text in zip(table, changes, strict=True)
        ]
        if self.config is not None:
            lines += [f"best: trial {self.best}; its options are in {self.config}; train with",
                      f"    multispace train {self.system} --config {shlex.quote(self.config)} "
                      "--run NEW"]  # fmt: skip
        return "\n".join(lines)

    @property
    def exit_status(self) -> int:
        """128 + the number of the signal that ended the search; 1 where no trial is complete."""
        if self.stopped:
            return 128 + signal.Signals[self.stopped]
        return FAILED if self.best is None else 0

    def messages(self) -> list[str]:
        """Return why trials failed, and how to continue a search that a signal ended early."""
        lines = [f"trial {t.number} failed: {t.reason}" for t in self.trials if t.reason]
        if self.stopped:
            lines.append(
                f"stopped by {self.stopped}; finished trials: {len(self.trials)}; continue with: "
                f"multispace tune {self.system} --run {shlex.quote(self.run)} --resume"
            )
        elif self.best is None:
            lines.append("no trial is complete; see the reasons above")
        return lines


def tune(search: Search, resume: bool = False) -> Tuned:
    """Search for the options of a system, and write those of the best trial to ``best.yaml``.

    The first trial has the options of ``search.start``. Each trial is an ordinary run, whose score
    is that of the validation split; the test split is not read. SIGINT and SIGTERM end the search
    after the current step.

    :param resume: continue the search in the folder where it was left
    :raises OptionError: the folder holds something else, or a search that is not to be resumed.
    :raises PipelineError: the cache has no validation split or is not that of the earlier trials,
        or another process writes to the folder.
    """
    began = time.monotonic()
    if process_count() > 1:
        raise OptionError("a search uses one process", hint="start it without torchrun")
    _check_folder(search, resume)
    _check_data(search)
    search.folder.mkdir(parents=True, exist_ok=True)
    with RunLock(search.folder):
        search = _recorded(search, resume)
        study = Study(search)
        stopped = _run_trials(search, study)
        return _result(search, study, time.monotonic() - began, stopped)


def _check_folder(search: Search, resume: bool) -> None:
    """Refuse a folder that holds something else, or a search that is not to be resumed."""
    folder, where = search.folder, f"--run {search.folder}"
    if (folder / RECORD).exists():
        if not resume:
            raise OptionError(
                "holds a search", where=where, hint="add --resume, or choose another folder"
            )
        return
    for name in (CONFIG, STORAGE, TRIAL_FOLDER, BEST_OPTIONS):
        if (folder / name).exists():
            raise OptionError(
                f"holds {name}, which no search has written",
                where=where,
                hint="choose another folder",
            )


def _check_data(search: Search) -> None:
    """Check that the cache has a validation split, and is the one of the earlier trials."""
    options = search.start
    cache = Cache.open(local_cache(options.cache))
    if options.val_split not in cache.manifest.captions:
        raise PipelineError(
            f"has no split {options.val_split!r}, on which trials are compared",
            where=cache.root,
            hint="name another split with --val-split, or add one with `multispace preprocess`",
        )
    first = search.run_of(0)
    if (first / CONFIG).exists():
        check_same_data(first, cache, cache.vocabulary())


def _recorded(search: Search, resume: bool) -> Search:
    """Write the record of a search whose folder is locked, and return the search as recorded."""
    record = search.folder / RECORD
    _check_folder(search, resume)  # again: another process may have written before the lock
    if record.exists():
        search = replace(search, begun=FORMAT.read_json(record)["begun"])
    write_json(record, search.to_json())
    return search


def _run_trials(search: Search, study: Study) -> str | None:
    """Run the trials that are left.

    :returns: the name of the signal that ended them early, if one did
    """
    _update(search, study)
    for number in range(len(study.trials), search.trials):
        search = _begun(search, number)
        parameters = study.suggest(number)
        options = _words(search.changed(parameters)) or "the options of the first trial"
        _say(f"trial {number} ({number + 1} of {search.trials}): {options}")
        trial = run_trial(search, study, number, parameters)
        if isinstance(trial, StoppedTrial):
            return trial.signal
        study.add(trial)
        value = "" if trial.value is None else f", {search.start.select} {trial.value:.3f}"
        _say(f"trial {number}: {trial.state}{value}")
        _update(search, study)
    return None


def _begun(search: Search, number: int) -> Search:
    """Record that a trial is begun, so that its folder belongs to the search.

    :raises PipelineError: its folder was made by someone else, or is a link.
    """
    run = search.run_of(number)
    check_no_link(run.parent)
    check_no_link(run)
    if number < search.begun:
        return search
    if run.exists():
        raise PipelineError("was not made by this search", where=run, hint="move it away")
    search = replace(search, begun=number + 1)
    write_json(search.folder / RECORD, search.to_json())
    return search


def _update(search: Search, study: Study) -> None:
    """Write the options of the best trial, and remove checkpoints that are not kept."""
    best = study.best()
    if best is not None:
        with atomic_write(search.folder / BEST_OPTIONS) as file:
            file.write(_options_file(search, best).encode())
    if search.keep == ALL:
        return
    for trial in study.trials:
        if best is None or trial.number != best.number:
            remove_checkpoints(search.run_of(trial.number))


def _options_file(search: Search, trial: FinishedTrial) -> str:
    """Return the options of a trial as YAML that ``train --config`` reads, for a new run."""
    options = search.options(trial.parameters, trial.number).to_json()
    values = {
        name: shown_value(value) if isinstance(value, tuple) else value
        for name, value in options.items()
        if name != "run" and value is not None
    }
    head = f"# trial {trial.number}: {search.start.select} {trial.value:.4f}\n"
    return head + yaml.safe_dump(values, sort_keys=False)


def _result(search: Search, study: Study, seconds: float, stopped: str | None) -> Tuned:
    best = study.best()
    return Tuned(
        run=str(search.folder),
        system=search.start.system,
        selected_by=search.start.select,
        budget=search.budget,
        trials=[_trial_result(search, trial) for trial in study.trials],
        best=None if best is None else best.number,
        config=None if best is None else str(search.folder / BEST_OPTIONS),
        seconds=seconds,
        stopped=stopped,
    )


def _trial_result(search: Search, trial: FinishedTrial) -> TrialResult:
    return TrialResult(
        number=trial.number,
        state=trial.state,
        value=trial.value,
        steps=max(trial.validations, default=0),
        changed=search.changed(trial.parameters),
        reason=trial.reason,
    )


def _words(options: Mapping[str, Any]) -> str:
    """Return options as they are written on the command line."""
    return " ".join(word for name, value in options.items() for word in option_words(name, value))


def _say(line: str) -> None:
    print(line, file=sys.stderr)
