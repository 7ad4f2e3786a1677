"""From the arguments of a Python call to the options of a command."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import MISSING, Field
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

from multispace.errors import OptionError, shown
from multispace.fields import Options, declared_options, value_type

_Kind = TypeVar("_Kind", bound=Options)


def path_or_url(where: str | os.PathLike[str]) -> Path | str:
    """Return a path for a path or its text, with ``~`` expanded; a URL stays text."""
    if isinstance(where, str) and "://" in where:
        return where
    return local_path(where)


def local_path(where: str | os.PathLike[str]) -> Path:
    """Return a path for a path or its text, with ``~`` expanded.

    :raises OptionError: it is a URL, or no path at all.
    """
    if not isinstance(where, str | os.PathLike):
        raise OptionError(f"{shown(where)} is not a path", hint="give text or a pathlib.Path")
    if isinstance(where, str) and "://" in where:
        raise OptionError("a URL cannot be used here", where=where, hint="give a local path")
    return Path(where).expanduser()


def options_of(command: str, kind: type[_Kind], given: Mapping[str, Any]) -> _Kind:
    """Return the options of a command.

    :param kind: their dataclass
    :param given: values by the name of the option; paths may be text
    :raises OptionError: an option is unknown, missing, or has a value of another type.
    """
    known = {field.name: field for field, _ in declared_options(kind)}
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise OptionError(
                f"{command} has no option {name!r}",
                hint=f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}",
            )
    for name, field in known.items():
        if name not in given and field.default is field.default_factory is MISSING:
            raise OptionError(f"{command} needs {name!r}", hint=f"give {name}=...")
    return kind(**{name: _converted(known[name], value) for name, value in given.items()})


def _converted(field: Field[Any], value: Any) -> Any:
    """Return a value in the type of its field."""
    kinds = get_args(field.type) if isinstance(field.type, UnionType) else (field.type,)
    if value is None and type(None) in kinds:
        return None
    if Path in kinds:
        return path_or_url(value) if str in kinds else local_path(value)
    if get_origin(kinds[0]):
        parts = _parts(field, value)
        return tuple(map(local_path, parts) if Path in get_args(kinds[0]) else parts)
    kind, value = value_type(field), plain_number(value)
    if kind is float and type(value) is int:
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise OptionError(f"expected {kind.__name__}", where=f"{field.name}={shown(value)}")
    return value


def plain_number(value: Any) -> Any:
    """Return a number of another library, such as NumPy's, as one of Python's own."""
    if isinstance(value, bool | int | float) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _parts(field: Field[Any], value: Any) -> Any:
    if isinstance(value, str | os.PathLike) or not hasattr(value, "__iter__"):
        raise OptionError("expected a list", where=f"{field.name}={shown(value)}")
    return value
