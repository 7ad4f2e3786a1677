"""The directive ``command-help``: a section for each command, with the help that it prints."""

from collections.abc import Iterator

import click
from click.testing import CliRunner
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from multispace.cli import main

PROGRAM, WIDTH = "multispace", 80


def commands(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[click.Command, tuple[str, ...]]]:
    """Yield the commands of a group and of the groups in it, with the words that call them."""
    yield command, path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from commands(inner, (*path, name))


def help_of(command: click.Command, path: tuple[str, ...]) -> str:
    """Return the help of a command, with all its options."""
    names = {name for parameter in command.params for name in parameter.opts}
    flag = "--help-all" if "--help-all" in names else "--help"
    result = CliRunner().invoke(
        main, [*path, flag], prog_name=PROGRAM, terminal_width=WIDTH, catch_exceptions=False
    )
    return result.output


class CommandHelp(SphinxDirective):
    """Write the help of every command of the command line."""

    def run(self) -> list[nodes.Node]:
        """Return a section for each command."""
        sections: list[nodes.Node] = []
        for command, path in commands(main):
            name = " ".join([PROGRAM, *path])
            section = nodes.section(ids=[nodes.make_id(name)], names=[name])
            section += nodes.title(name, name)
            text = help_of(command, path)
            section += nodes.literal_block(text, text, language="text")
            self.state.document.note_implicit_target(section)
            sections.append(section)
        return sections


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
