"""Print an error as one line on stderr, and choose the exit status."""

import traceback

import click

from multispace.errors import Error, OptionError, brief
from multispace.exhaustion import is_out_of_memory, is_out_of_space
from multispace.exit_status import FAILED, USAGE
from multispace.pipeline.console.emit import print_json
from multispace.pipeline.console.printable import one_line

MORE_MEMORY = "free memory, or use a machine or a GPU with more"
MORE_SPACE = "make room, or raise the limit of file sizes"


def is_expected(error: Exception) -> bool:
    """Return whether an error is reported in one line; any other is a fault of this software."""
    return isinstance(error, Error | OSError) or is_out_of_memory(error)


def report_failure(error: Exception, as_json: bool, debug: bool, kept: str = "") -> int:
    """Print an expected error and return the exit status that it means.

    :param as_json: print the details of an error that has some as JSON on stdout
    :param debug: print the traceback before it
    :param kept: what the command has written when it ends early, in one sentence
    """
    if debug:
        traceback.print_exception(error)
    if as_json and hasattr(error, "to_json"):
        print_json(error.to_json())
    click.echo(one_line(f"error: {describe(error, kept)}"), err=True)
    return USAGE if isinstance(error, OptionError) else FAILED


def describe(error: Exception, kept: str = "") -> str:
    """Return an error as one line: where, what and a hint; what is kept where resources ran out.

    :param kept: as for :func:`report_failure`
    """
    if isinstance(error, Error):
        return str(error)
    if is_out_of_memory(error):
        reason = f" ({brief(error, 200)})" if str(error) else ""
        return str(Error(f"out of memory{reason}", hint=_hint(MORE_MEMORY, kept)))
    if isinstance(error, OSError) and error.strerror:
        hint = _hint(MORE_SPACE, kept) if is_out_of_space(error) else None
        return str(Error(error.strerror, where=error.filename, hint=hint))
    return " ".join(str(error).split())


def _hint(advice: str, kept: str) -> str:
    return f"{advice}; {kept}" if kept else advice
