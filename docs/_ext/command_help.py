"""The directive ``command-help``: a section for each command, with the help that it prints."""

from collections.abc import Iterator

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from multispace.cli import main

WIDTH = 80


def commands(
    command: click.Command, context: click.Context
) -> Iterator[tuple[click.Command, click.Context]]:
    """Yield the commands of a group and of the groups in it, with their contexts."""
    yield command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                made = click.Context(inner, context, info_name=name, terminal_width=WIDTH)
                yield from commands(inner, made)


class CommandHelp(SphinxDirective):
    """Write the help of every command of the command line."""

    def run(self) -> list[nodes.Node]:
        """Return a section for each command."""
        sections: list[nodes.Node] = []
        root = click.Context(main, info_name="multispace", terminal_width=WIDTH)
        for command, context in commands(main, root):
            name = context.command_path
            section = nodes.section(ids=[nodes.make_id(name)], names=[name])
            section += nodes.title(name, name)
            text = command.get_help(context)
            section += nodes.literal_block(text, text, language="text")
            self.state.document.note_implicit_target(section)
            sections.append(section)
        return sections


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
