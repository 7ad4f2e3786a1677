"""Errors as one line on stderr and an exit status."""

import traceback

import click

from multispace.errors import Error, OptionError
from multispace.exit_status import FAILED, USAGE
from multispace.pipeline.console.emit import print_json
from multispace.pipeline.console.printable import one_line


def report_failure(error: Error | OSError, as_json: bool, debug: bool) -> int:
    """Print an error and return the exit status that it means.

    :param as_json: print the details of an error that has some as JSON on stdout
    :param debug: print the traceback before it
    """
    if debug:
        traceback.print_exception(error)
    if as_json and hasattr(error, "to_json"):
        print_json(error.to_json())
    click.echo(one_line(f"error: {describe(error)}"), err=True)
    return USAGE if isinstance(error, OptionError) else FAILED


def describe(error: Error | OSError) -> str:
    """Return an error as one line: where, what and a hint."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return " ".join(str(error).split())
