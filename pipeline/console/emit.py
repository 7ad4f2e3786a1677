"""Print the result of a command: one function for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import click

from multispace.pipeline.console.printable import printable, printable_json


class Result(Protocol):
    """What a command returns. A result may also have

    - ``notes``: what a reader should know, a line each; the JSON has them too
    - ``messages()``: lines for stderr, such as skipped inputs
    - ``exit_status``: 0 where it is missing
    """

    def to_json(self) -> Any:
        """Return plain values."""

    def render(self) -> str:
        """Return text for people."""


@dataclass(frozen=True)
class Formatted:
    """A result whose text has another form than usual, for example Markdown."""

    result: Result
    text: str

    def to_json(self) -> Any:
        """Return the result's plain values."""
        return self.result.to_json()

    def render(self) -> str:
        """Return the text in its form."""
        return self.text

    @property
    def notes(self) -> Sequence[str]:
        """The result's notes."""
        return getattr(self.result, "notes", ())


def emit(result: Result, as_json: bool) -> int:
    """Print a result and return the exit status of its command.

    :param as_json: print only JSON on stdout
    """
    if as_json:
        print_json(result.to_json())
    else:
        if text := result.render():
            click.echo(printable(text))
        for note in getattr(result, "notes", ()):
            click.echo(printable(f"note: {note}"), err=True)
    for line in result.messages() if hasattr(result, "messages") else ():
        click.echo(printable(line), err=True)
    return int(getattr(result, "exit_status", 0))


def print_json(value: Any) -> None:
    """Print plain values as JSON."""
    click.echo(printable_json(value))
