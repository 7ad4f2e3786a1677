"""From the declared options of a command to its parameters on the command line."""

from collections.abc import Sequence
from dataclasses import MISSING, Field
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from multispace.fields import Option, declared_options, flag, shown_value, value_type
from multispace.model.options import SYSTEMS

PATHS = {
    "dir": click.Path(file_okay=False, path_type=Path),
    "file": click.Path(dir_okay=False, path_type=Path),
    "any": click.Path(path_type=Path),
}
NUMBERS: dict[type, click.ParamType] = {int: click.INT, float: click.FLOAT}


class CommaList(click.ParamType):
    """Several choices in one value, separated by commas.

    :param whole: whether the value stays one text; it becomes a tuple otherwise
    """

    name = "list"

    def __init__(self, choices: Sequence[str], whole: bool) -> None:
        self.choices, self.whole = choices, whole

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return the choices, as the help of a command shows them."""
        return f"[{'|'.join(self.choices)}],..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: Any) -> Any:
        """Check every part of a value."""
        parts = value.split(",")
        for part in parts:
            if part not in self.choices:
                self.fail(f"{part!r} is not one of {', '.join(self.choices)}.", param, ctx)
        return value if self.whole else tuple(parts)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete the part after the last comma."""
        before, comma, last = incomplete.rpartition(",")
        taken = before.split(",")
        return [
            CompletionItem(f"{before}{comma}{choice}")
            for choice in self.choices
            if choice.startswith(last) and choice not in taken
        ]


class NumberList(click.ParamType):
    """Numbers in one value, separated by commas."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: Any) -> tuple[float, ...]:
        """Return the numbers of a value."""
        parts = value.split(",")
        try:
            return tuple(map(float, parts))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers, such as 0.2,0.4.", param, ctx)


class DeclaredOption(click.Option):
    """An option on the command line, with its declaration.

    :param short_help: its help on the first page of a help that is split
    """

    def __init__(
        self, names: Sequence[str], declared: Option, short_help: str, **settings: Any
    ) -> None:
        super().__init__(names, **settings)
        self.declared, self.short_help = declared, short_help


class DeclaredArgument(click.Argument):
    """An argument on the command line, with its declaration."""

    def __init__(self, names: Sequence[str], declared: Option, **settings: Any) -> None:
        super().__init__(names, **settings)
        self.declared = declared


def parameters(kind: type) -> list[click.Parameter]:
    """Return a click parameter for each option that a dataclass declares.

    None of them has a default: what is not given is left to the dataclass.
    """
    return [
        _argument(known, declared) if declared.argument else _option(known, declared)
        for known, declared in declared_options(kind)
    ]


def given_options(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Return the options of ``kind`` that were given on the command line."""
    names = [known.name for known, _ in declared_options(kind)]
    return {name: values[name] for name in names if values.get(name) not in (None, ())}


def help_text(known: Field[Any], declared: Option, short: bool = False) -> str:
    """Return the help of an option: what it is, and in brackets its users, range and default.

    :param short: leave the range out
    """
    facts = [_users(declared), "" if short else declared.range, _default(known, declared)]
    facts = [fact for fact in facts if fact]
    return declared.help + (f"  [{'; '.join(facts)}]" if facts else "")


def _users(declared: Option) -> str:
    if declared.users is None:
        return ""
    others = [system for system in SYSTEMS if system not in declared.users]
    return f"all but {others[0]}" if len(others) == 1 else ", ".join(declared.users)


def _default(known: Field[Any], declared: Option) -> str:
    if known.default is MISSING:
        return declared.default_text or ""  # click adds "required"
    if declared.default_text:
        return f"default: {declared.default_text}"
    if known.default in (None, "", ()) or isinstance(known.default, bool):
        return ""
    return f"default: {shown_value(known.default)}"


def _argument(known: Field[Any], declared: Option) -> DeclaredArgument:
    required = known.default is MISSING and declared.default_text is None
    metavar = declared.metavar
    return DeclaredArgument(
        [known.name],
        declared,
        type=_type(known, declared),
        nargs=-1 if value_type(known) is Sequence else 1,
        metavar=f"[{metavar}]" if metavar and not required else metavar,
        **_presence(required),
    )


def _option(known: Field[Any], declared: Option) -> DeclaredOption:
    name = flag(known)
    switch = value_type(known) is bool
    return DeclaredOption(
        [known.name, f"{name}/--no-{name[2:]}" if declared.negatable else name],
        declared,
        short_help=help_text(known, declared, short=True),
        type=None if switch else _type(known, declared),
        is_flag=switch,
        multiple=value_type(known) is Sequence and not declared.commas,
        metavar=declared.metavar or {"dir": "DIR", "file": "FILE"}.get(declared.path or ""),
        help=help_text(known, declared),
        **_presence(known.default is MISSING and declared.default_text is None),
    )


def _presence(required: bool) -> dict[str, Any]:
    """Say that a parameter must be given, or is None where it is not."""
    return {"required": True} if required else {"required": False, "default": None}


def _type(known: Field[Any], declared: Option) -> click.ParamType:
    kind = value_type(known)
    if declared.commas:
        return CommaList(declared.choices, kind is str) if declared.choices else NumberList()
    if declared.choices:
        return click.Choice(declared.choices)
    if declared.path:
        return PATHS[declared.path]
    return NUMBERS.get(kind, click.STRING)
