"""Inputs that `preprocess` skips: their kinds, their file, and what the terminal shows of them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from multispace.data.annotations import Problem
from multispace.data.files import write_json
from multispace.data.images import NO_FILE
from multispace.errors import brief
from multispace.long_lists import first_lines

MISSING, UNREADABLE = "missing image", "unreadable image"


def skipped_inputs(
    problems: Iterable[Problem], failures: Mapping[str, str], left_out: frozenset[str]
) -> dict[str, list[str]]:
    """Return the skipped inputs, a line for each, by the kind of fault.

    :param problems: entries of the annotations that were skipped
    :param failures: reason why an image has no features, by key
    :param left_out: keys of images that have no file, if they are too many to list
    """
    skipped: dict[str, list[str]] = {}
    for problem in problems:
        skipped.setdefault(problem.kind, []).append(str(problem))
    for key, reason in failures.items():
        kind = MISSING if reason == NO_FILE else UNREADABLE
        skipped.setdefault(kind, []).append(f"{key}: {reason}")
    if left_out:
        skipped[MISSING] = [f"{len(left_out)} images have no file, the first is {min(left_out)}"]
    return skipped


def write_skipped(file: Path, skipped: Mapping[str, Sequence[str]]) -> None:
    """Write the list of skipped inputs, or remove that of an earlier run."""
    if skipped:
        write_json(file, skipped)
    else:
        file.unlink(missing_ok=True)


def skipped_messages(file: Path, skipped: Mapping[str, Sequence[str]]) -> list[str]:
    """Return lines for the terminal: the count of each kind, and its first inputs.

    :param file: that lists all of them
    """
    lines = []
    for kind, inputs in skipped.items():
        lines.append(f"skipped, {kind}: {len(inputs)}")
        lines += first_lines(
            [f"  {brief(line)}" for line in inputs], f"  ... and {{}} more: {file}"
        )
    return lines
