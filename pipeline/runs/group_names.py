"""Names that a user gives to groups of runs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from multispace.errors import OptionError
from multispace.pipeline.runs.groups import EvaluatedRun

Groups = Mapping[str, Sequence[EvaluatedRun]]


def named_groups(groups: Groups, names: Sequence[str]) -> dict[str, list[EvaluatedRun]]:
    """Return the groups in their order, each by the name that it was given, else by its own.

    A name for a run of which both checkpoints are compared is followed by the checkpoint.

    :param names: NAME=RUN, where RUN is the folder of a run of the group or of its evaluation, or
        a pattern for such folders
    :raises OptionError: a name fits no group or several, or two groups would have one name.
    """
    given: dict[str, str] = {}
    for text in names:
        name, _, pattern = text.partition("=")
        where = f"--name {text}"
        for group, unique in _fitting(groups, pattern, name.strip(), where).items():
            if given.setdefault(group, unique) != unique:
                raise OptionError(
                    f"the row is named {given[group]!r} already", where=where, hint="name it once"
                )
    renamed: dict[str, list[EvaluatedRun]] = {}
    for group, runs in groups.items():
        name = given.get(group, group)
        if name in renamed:
            raise OptionError(f"two rows would be {name!r}", where="--name", hint="use other names")
        renamed[name] = list(runs)
    return renamed


def short_names(groups: Groups) -> dict[str, str]:
    """Return the system as the name of each group whose own name adds options, if it is enough.

    :returns: by the name of the group; groups that would have the same name keep their own
    """
    systems = {name: runs[0].system for name, runs in groups.items()}
    short = {
        name: systems[name] if name.startswith(f"{systems[name]} --") else name for name in groups
    }
    count = Counter(short.values())
    return {name: text if count[text] == 1 else name for name, text in short.items()}


def _fitting(groups: Groups, pattern: str, name: str, where: str) -> dict[str, str]:
    """Return the groups that a pattern fits, with their new names."""
    found = {
        group: runs
        for group, runs in groups.items()
        if any(_fits(run.scored.folder, pattern) for run in runs)
    }
    found = found or {
        group: runs
        for group, runs in groups.items()
        if any(_fits(run.folder, pattern) for run in runs)
    }
    if not found:
        raise OptionError(
            "no run that is compared fits it", where=where, hint="write the run as it is given"
        )
    checkpoints = {group: runs[0].scored.record.checkpoint for group, runs in found.items()}
    if len(set(checkpoints.values())) < len(found):
        rows = "; ".join(found)
        raise OptionError(
            f"it fits {len(found)} rows: {rows}",
            where=where,
            hint="name each row; runs that differ in more than their seed are different rows",
        )
    if len(found) == 1:
        return dict.fromkeys(found, name)
    return {group: f"{name} ({checkpoint})" for group, checkpoint in checkpoints.items()}


def _fits(folder: Path, pattern: str) -> bool:
    wanted = Path(pattern).as_posix()
    return folder.as_posix() == wanted or fnmatchcase(folder.as_posix(), wanted)
