"""Options that are declared once, as fields of dataclasses.

The default, help text, range, choices and users of an option stand at its field. The command
line, configuration files and the checks of values all read them from there. This module depends
on the errors alone, so that every part of the package may declare options.
"""

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, NamedTuple, get_args, get_origin

from multispace.errors import OptionError

OPTION = "option"  # the key of a declaration in the metadata of its field


class Bound(NamedTuple):
    """A kind of limit: how messages and help name it, and the comparison that must hold."""

    words: str
    sign: str
    holds: Callable[[Any, Any], bool]


BOUNDS = {  # by the parameter of :class:`Option`
    "min": Bound("at least", ">=", operator.ge),
    "exclusive_min": Bound("above", ">", operator.gt),
    "max": Bound("at most", "<=", operator.le),
    "exclusive_max": Bound("below", "<", operator.lt),
}


class Type(NamedTuple):
    """A type of values: how messages name it, and whether a value has it."""

    words: str
    holds: Callable[[Any], bool]


TYPES = {  # NumPy's numbers are allowed too
    bool: Type("true or false", lambda value: isinstance(value, bool)),
    int: Type(
        "a whole number", lambda value: isinstance(value, Integral) and not isinstance(value, bool)
    ),
    float: Type("a number", lambda value: isinstance(value, Real) and not isinstance(value, bool)),
}


class Range(NamedTuple):
    """Numbers of an option that a search tries: from ``low`` to ``high``, both included.

    :param log: draw uniformly from the logarithms of the numbers
    """

    low: float
    high: float
    log: bool = False


class Choices(NamedTuple):
    """Values of an option that a search tries."""

    values: tuple[Any, ...]


Searched = Range | Choices


@dataclass(frozen=True, kw_only=True)
class Option:
    """What a command needs to know of an option, beside its type and default.

    :param help: a sentence or two, without the default, the range and the users
    :param choices: all values that are allowed, or all parts of a list
    :param metavar: the value's name in help
    :param path: what a path leads to: ``dir``, ``file`` or ``any``
    :param flag: the name on the command line, where it is not the field's
    :param argument: whether it is given by position, without a flag
    :param commas: whether the value is a list whose parts are separated by commas: of choices,
        or of numbers where there are no choices
    :param negatable: whether ``--no-NAME`` exists beside ``--NAME``
    :param group: the heading that it stands under
    :param common: whether a help that is split shows it on its first page
    :param default_text: what help shows in place of the default; a field without a default
        that has it may be missing on the command line
    :param defaults: the default by system, for an option that some systems default otherwise;
        ``""`` is the default of all others, and the field's own default is None
    :param users: the systems that use it; None means every one
    :param requires: another option, and those of its values that give this one a meaning; with
        any other value this option must keep its default
    :param search: the values that `tune` tries; None means that it leaves the option alone
    :param searches: the values that it tries in single systems, in place of ``search``
    """

    help: str
    choices: tuple[str, ...] = ()
    min: float | None = None
    max: float | None = None
    exclusive_min: float | None = None
    exclusive_max: float | None = None
    metavar: str | None = None
    path: str | None = None
    flag: str | None = None
    argument: bool = False
    commas: bool = False
    negatable: bool = False
    group: str = ""
    common: bool = False
    default_text: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    users: tuple[str, ...] | None = None
    requires: tuple[str, ...] = ()
    search: Searched | None = None
    searches: Mapping[str, Searched] = field(default_factory=dict)

    def search_in(self, system: str) -> Searched | None:
        """Return the values that `tune` tries in ``system``."""
        return self.searches.get(system, self.search) if self.used_by(system) else None

    def used_by(self, system: str) -> bool:
        """Return whether ``system`` uses the option."""
        return self.users is None or system in self.users

    @property
    def range(self) -> str:
        """The allowed range, for example ">= 0, < 1"."""
        limits = ((bound.sign, getattr(self, name)) for name, bound in BOUNDS.items())
        return ", ".join(f"{sign} {value:g}" for sign, value in limits if value is not None)


def option(help: str, default: Any, **declared: Any) -> Any:
    """Return a dataclass field that declares an option with a default.

    :param declared: parameters of :class:`Option`
    """
    return field(default=default, metadata={OPTION: Option(help=help, **declared)})


def option_by_system(help: str, default: Any, others: Mapping[str, Any], **declared: Any) -> Any:
    """Return a dataclass field that declares an option whose default depends on the system.

    :func:`fill_defaults` sets the default when the system is known.

    :param default: of all systems that are not in ``others``
    :param others: defaults of single systems, by name
    """
    systems: dict[str, list[str]] = {}
    for system, value in others.items():
        systems.setdefault(shown_value(value), []).append(system)
    texts = [f"{', '.join(names)}: {value}" for value, names in systems.items()]
    text = "; ".join([shown_value(default), *texts])
    defaults = {**others, "": default}
    return option(help, None, default_text=text, defaults=defaults, **declared)


def default_of(known: Field[Any], system: str) -> Any:
    """Return the default of an option in ``system``."""
    declared = known.metadata.get(OPTION)
    if declared is None or not declared.defaults:
        return known.default
    return declared.defaults.get(system, declared.defaults[""])


def fill_defaults(options: Any, system: str) -> None:
    """Set the options that were not given and whose default depends on the system.

    Options that the system does not use stay None.
    """
    for known, declared in declared_options(options):
        unset = declared.defaults and getattr(options, known.name) is None
        if unset and declared.used_by(system):
            object.__setattr__(options, known.name, default_of(known, system))


def required(help: str, **declared: Any) -> Mapping[str, Any]:
    """Return the metadata of a field that declares an option without a default.

    Write ``field(metadata=required("help"))``: type checkers then know that it must be given.
    """
    return {OPTION: Option(help=help, **declared)}


def argument(help: str, **declared: Any) -> Mapping[str, Any]:
    """Return the metadata of a field that is given by position, likewise."""
    return required(help, argument=True, **declared)


def declared_options(kind: Any) -> Iterator[tuple[Field[Any], Option]]:
    """Yield the fields of a dataclass, or of an instance, that declare an option."""
    for known in fields(kind):
        if OPTION in known.metadata:
            yield known, known.metadata[OPTION]


def value_type(known: Field[Any]) -> Any:
    """Return the type of a field's values: of ``X | None``, X; of a sequence, its origin."""
    kind: Any = known.type
    if isinstance(kind, UnionType):
        kinds = [part for part in get_args(kind) if part is not NoneType]
        kind = kinds[0]
    return get_origin(kind) or kind


def flag(known: Field[Any] | str) -> str:
    """Return how an option is written on the command line; an argument is its bare name."""
    if isinstance(known, str):
        return known if known == "system" else "--" + known.replace("_", "-")
    declared = known.metadata.get(OPTION)
    if declared is not None and declared.argument:
        return known.name
    return (declared and declared.flag) or "--" + known.name.replace("_", "-")


def shown_value(value: Any) -> str:
    """Return a value as it is written on the command line; equal sizes are counted: "16x8"."""
    if not isinstance(value, list | tuple):
        return str(value)
    if len(value) > 1 and isinstance(value[0], int) and len(set(value)) == 1:
        return f"{value[0]}x{len(value)}"
    return ",".join(map(str, value))


def option_words(name: str, value: Any) -> list[str]:
    """Return the words that set the option ``name`` on the command line."""
    if isinstance(value, bool):
        return [flag(name if value else f"no_{name}")]
    return [flag(name), shown_value(value)]


class Options:
    """The options of a command: a base for dataclasses, whose values are checked on creation."""

    def __post_init__(self) -> None:
        check_values(self)


def check_values(options: Any) -> None:
    """Check the value of each declared option on its own: its type, choices and range.

    :raises OptionError: names the flag, the value and the bound.
    """
    for known, declared in declared_options(options):
        value = getattr(options, known.name)
        if value is None:
            continue
        where = f"{flag(known)} {shown_value(value)}"
        if (wanted := TYPES.get(value_type(known))) and not wanted.holds(value):
            raise OptionError(f"it must be {wanted.words}", where=where)
        for part in _parts(value, declared):
            _check_part(part, declared, where)


def _check_part(value: Any, declared: Option, where: str) -> None:
    """Check a value, or one of the values of a list: its choices and its range."""
    if isinstance(value, Real) and not math.isfinite(value):
        raise OptionError("it must be a finite number", where=where)
    if declared.choices and value not in declared.choices:
        raise OptionError(f"use one of {', '.join(declared.choices)}", where=where)
    for name, bound in BOUNDS.items():
        limit = getattr(declared, name)
        if limit is not None and not bound.holds(value, limit):
            raise OptionError(f"it must be {bound.words} {limit}", where=where)


def _parts(value: Any, declared: Option) -> Sequence[Any]:
    """Return the values that the choices and the range of an option are about."""
    if declared.commas and isinstance(value, str):
        return value.split(",")
    return value if isinstance(value, list | tuple) else (value,)


def check_use(options: Any, system: str | None = None) -> None:
    """Refuse options that have no effect beside the others.

    :param system: the chosen system, for options that only some systems use
    :raises OptionError: names the option, what leaves it without effect, and what uses it.
    """
    named = {known.name: known for known, _ in declared_options(options)}
    for known, declared in declared_options(options):
        value = getattr(options, known.name)
        usual = known.default if system is None else default_of(known, system)
        if known.default is MISSING or value in (usual, known.default):
            continue
        if system is not None and not declared.used_by(system):
            raise unused_option(known, value, system)
        if declared.requires:
            name, *values = declared.requires
            other = flag(named[name])
            chosen = getattr(options, name)
            if chosen not in values:
                raise OptionError(
                    f"{flag(known)} is only used with {other} {' or '.join(values)}",
                    where=f"{flag(known)} {shown_value(value)} and {other} {chosen}",
                )


def unused_option(
    known: Field[Any], value: Any, system: str, file: object | None = None
) -> OptionError:
    """Return the error about an option that ``system`` does not use.

    :param file: where it was given, if not on the command line
    """
    users = known.metadata[OPTION].users or ()
    place = f" (in {file})" if file else ""
    return OptionError(
        f"system {system} does not use this option",
        where=f"{flag(known)} {shown_value(value)}{place}",
        hint=f"it is for {', '.join(users)}",
    )
