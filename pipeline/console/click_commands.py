"""Commands that are built from dataclasses of options: parse, call a function, emit its result."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from multispace.exit_status import INTERRUPTED
from multispace.pipeline.console.click_options import (
    DeclaredArgument,
    DeclaredOption,
    given_options,
    parameters,
)
from multispace.pipeline.console.emit import Result, emit
from multispace.pipeline.console.exit_on_error import is_expected, report_failure
from multispace.pipeline.console.help import Context, write_lines, write_section
from multispace.pipeline.console.main_process import only_main_process_prints

HELP_ALL = "multispace.help_all"  # in the meta of a context: whether help shows every option
Rows = Sequence[tuple[str, str]]


class Command(click.Command):
    """A command that calls a function with its options and emits the result.

    Expected failures are one line on stderr and an exit status.

    :param run: called with an instance of each of ``kinds``, and with what was given of
        ``partial``, by name
    :param kinds: dataclasses of options
    :param partial: a dataclass whose options may also come from elsewhere, such as a file
    :param without: names of options of ``partial`` that the command does not have
    :param groups: the order of the headings of options in help
    :param sections: further sections of the help: rows by heading
    :param examples: command lines that can be pasted
    :param interrupted: what is kept after Ctrl-C, or where memory or disk space ran out, in one
        sentence
    """

    context_class = Context

    def __init__(
        self,
        name: str,
        run: Callable[..., Result],
        kinds: Sequence[type],
        *,
        partial: type | None = None,
        without: Sequence[str] = (),
        groups: Sequence[str] = (),
        sections: Mapping[str, Rows] | None = None,
        examples: Sequence[str] = (),
        interrupted: str = "",
    ) -> None:
        self.run, self.kinds, self.partial = run, kinds, partial
        self.sections, self.examples, self.interrupted = sections or {}, examples, interrupted
        order = ("", *groups)
        declaring = [partial, *kinds] if partial else kinds
        every = [parameter for kind in declaring for parameter in parameters(kind)]
        declared = sorted(
            (parameter for parameter in every if parameter.name not in without),
            key=lambda parameter: order.index(_heading(parameter)),
        )
        self.has_pages = not all(map(_on_first_page, declared))
        super().__init__(
            name, params=[*declared, *_help_all() * self.has_pages, *_common()], help=run.__doc__
        )

    def invoke(self, context: click.Context) -> None:
        """Run the command, print its result or its failure, and end with its exit status."""
        as_json, debug = context.params["as_json"], context.params["debug"]
        try:
            options: list[Any] = [k(**given_options(k, context.params)) for k in self.kinds]
            if self.partial:
                options.append(given_options(self.partial, context.params))
            status = emit(self.run(*options), as_json)
        except BrokenPipeError:
            raise  # the reader of the output has closed it; click ends quietly
        except Exception as error:
            if not is_expected(error):
                raise
            status = report_failure(error, as_json, debug, self.interrupted)
        except KeyboardInterrupt:
            click.echo(f"interrupted: {self.interrupted}", err=True)
            status = INTERRUPTED
        if status:
            sys.exit(status)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the arguments, the further sections, and the options under their headings."""
        short = self.has_pages and HELP_ALL not in context.meta
        shown = [p for p in self.get_params(context) if not short or _on_first_page(p)]
        arguments = [
            (parameter.make_metavar(context), parameter.declared.help)
            for parameter in shown
            if isinstance(parameter, DeclaredArgument)
        ]
        write_section(formatter, "Arguments", arguments)
        for heading, rows in self.sections.items():
            write_section(formatter, heading, rows)
        by_heading: dict[str, list[tuple[str, str]]] = {"": []}
        for parameter in shown:
            if isinstance(parameter, click.Option):
                heading = "" if short else _heading(parameter)
                by_heading.setdefault(heading, []).append(_entry(parameter, context, short))
        for heading, records in by_heading.items():
            write_section(formatter, heading or "Options", records)

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_lines(formatter, "Examples", self.examples)


class Commands(click.Group):
    """Commands in the order in which they were added, with whole summaries in their list.

    :param notes: paragraphs below the list, by heading; their lines are not wrapped
    """

    context_class = Context

    def __init__(
        self, *args: Any, notes: Mapping[str, Sequence[str]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.notes = notes or {}

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run a command; of several processes that `torchrun` starts, one prints."""
        with only_main_process_prints():
            return super().main(*arguments, **options)

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of the commands in the order of work."""
        return list(self.commands)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a line or two about each command."""
        rows = [(name, _summary(command)) for name, command in self.commands.items()]
        write_section(formatter, "Commands", rows)

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the notes."""
        for heading, lines in self.notes.items():
            write_lines(formatter, heading, lines)

    def add(
        self, *kinds: type, name: str | None = None, **settings: Any
    ) -> Callable[[Callable[..., Result]], Command]:
        """Return a decorator that makes a command of a function.

        :param kinds: dataclasses of options; the function is called with one of each
        :param name: the command's name, where it is not the function's
        :param settings: parameters of :class:`Command`
        """

        def register(function: Callable[..., Result]) -> Command:
            command = Command(name or function.__name__, function, kinds, **settings)
            self.add_command(command)
            return command

        return register


def _common() -> list[click.Option]:
    return [
        click.Option(["--json", "as_json"], is_flag=True, help="Print only JSON on stdout."),
        click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."),
    ]


def _help_all() -> list[click.Option]:
    def show(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value and not context.resilient_parsing:
            context.meta[HELP_ALL] = True
            click.echo(context.get_help())
            context.exit()

    return [
        click.Option(
            ["--help-all"], is_flag=True, expose_value=False, is_eager=True, callback=show,
            help="Show this message with all options, and exit.",
        )
    ]  # fmt: skip


def _on_first_page(parameter: click.Parameter) -> bool:
    if not isinstance(parameter, DeclaredOption | DeclaredArgument):
        return True
    return parameter.declared.common or not parameter.declared.group


def _entry(parameter: click.Option, context: click.Context, short: bool) -> tuple[str, str]:
    """Return an option's names and its help."""
    names, text = parameter.get_help_record(context) or ("", "")
    if short and isinstance(parameter, DeclaredOption) and parameter.help:
        text = text.replace(parameter.help, parameter.short_help, 1)
    return names, text


def _heading(parameter: click.Parameter) -> str:
    return parameter.declared.group if isinstance(parameter, DeclaredOption) else ""


def _summary(command: click.Command) -> str:
    return " ".join((command.help or "").split("\n\n")[0].split())
