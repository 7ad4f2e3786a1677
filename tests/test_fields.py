import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import pytest

from multispace.errors import OptionError
from multispace.fields import (
    Options,
    argument,
    check_use,
    declared_options,
    flag,
    option,
    option_words,
    required,
    shown_value,
    value_type,
)


@dataclass(frozen=True)
class Example(Options):
    place: str = field(metadata=argument("Where."))
    size: int = field(metadata=required("How large.", min=1, max=9))
    share: float = option("A fraction.", 0.5, min=0, exclusive_max=1)
    rate: float | None = option("A rate.", None, exclusive_min=0)
    kind: str = option("A kind.", "a", choices=("a", "b"), users=("latent",))
    names: Sequence[str] = option("Names.", ("x",), choices=("x", "y"), commas=True)
    text: str | None = option("Names in one text.", None, choices=("x", "y"), commas=True)
    rates: tuple[float, ...] = option("Rates.", (), min=0, commas=True)
    fall: int = option("Only with b.", 3, requires=("kind", "b"))
    switch: bool = option("On or off.", False)
    many: int = option("Count.", 3, flag="--how-many")


def make(**values) -> Example:
    return Example(**{"place": "here", "size": 3, **values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 0}, "--size 0: it must be at least 1"),
        ({"size": 10}, "--size 10: it must be at most 9"),
        ({"share": -0.1}, "--share -0.1: it must be at least 0"),
        ({"share": 1.0}, "--share 1.0: it must be below 1"),
        ({"share": math.nan}, "--share nan: it must be a finite number"),
        ({"rate": 0.0}, "--rate 0.0: it must be above 0"),
        ({"size": "3"}, "--size 3: it must be a whole number"),
        ({"size": 2.5}, "--size 2.5: it must be a whole number"),
        ({"size": True}, "--size True: it must be a whole number"),
        ({"share": "x"}, "--share x: it must be a number"),
        ({"switch": 1}, "--switch 1: it must be true or false"),
        ({"kind": "c"}, "--kind c: use one of a, b"),
        ({"names": ("x", "z")}, "--names x,z: use one of x, y"),
        ({"text": "x,z"}, "--text x,z: use one of x, y"),
        ({"rates": (1.0, -0.5)}, "--rates 1.0,-0.5: it must be at least 0"),
        ({"rates": (1.0, math.nan)}, "--rates 1.0,nan: it must be a finite number"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_flag_value_and_bound(values, message):
    with pytest.raises(OptionError) as caught:
        make(**values)
    assert str(caught.value) == message


def test_values_at_the_bounds_are_allowed():
    make(size=1, share=0.0, names=("y", "x"), text="x,y")
    make(size=np.int64(9), share=0, rate=np.float32(0.5))
    make(size=9, share=0.999, rate=1e-9)


def test_an_option_without_effect_is_refused():
    with pytest.raises(OptionError, match="--fall 4 and --kind a: --fall is only used with --kind"):
        check_use(make(fall=4))
    check_use(make(fall=4, kind="b"))
    with pytest.raises(OptionError, match="--kind b: system base does not use .*; it is for lat"):
        check_use(make(kind="b"), "base")
    check_use(make(kind="b"), "latent")


def test_names_and_types_are_those_of_the_command_line():
    known = {f.name: f for f in fields(Example)}
    assert flag(known["place"]) == "place"
    assert flag(known["many"]) == "--how-many"
    assert flag("lr_min") == "--lr-min"
    assert [value_type(known[n]) for n in ("rate", "names", "text")] == [float, Sequence, str]
    assert option_words("flip", False) == ["--no-flip"]
    assert option_words("categories", (3, 2)) == ["--categories", "3,2"]


@pytest.mark.parametrize(
    ("value", "text"),
    [((16,) * 8, "16x8"), ((128,), "128"), ((10, 4), "10,4"), (("a", "a"), "a,a"), ((), "")],
)
def test_equal_sizes_are_counted(value, text):
    assert shown_value(value) == text


def test_ranges_are_shown_as_help_has_them():
    ranges = {f.name: declared.range for f, declared in declared_options(Example)}
    assert (ranges["size"], ranges["share"], ranges["rate"]) == (">= 1, <= 9", ">= 0, < 1", "> 0")
