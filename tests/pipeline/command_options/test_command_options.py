import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from support.paths import ROOT

from multispace import cli
from multispace.data.shapes.generator import MIN_IMAGES
from multispace.errors import OptionError
from multispace.fields import declared_options, flag
from multispace.pipeline.command_options.cache_options import RepairOptions
from multispace.pipeline.command_options.compare_options import CompareOptions, CompareRequest
from multispace.pipeline.command_options.doctor_options import DoctorOptions
from multispace.pipeline.command_options.evaluate_options import EvaluateOptions
from multispace.pipeline.command_options.preprocess_options import PreprocessOptions
from multispace.pipeline.command_options.shapes_options import ShapesOptions

KINDS = {
    name: kind
    for name, kind in vars(cli).items()
    if isinstance(kind, type) and name.endswith(("Options", "Request"))
}


def test_all_commands_are_here():
    assert len(KINDS) == 28  # one of each command, and a second of three of them


@pytest.mark.parametrize("name", KINDS)
def test_every_field_is_declared_with_help(name):
    declared = dict.fromkeys(f.name for f in fields(KINDS[name]))
    assert list(declared) == [f.name for f, _ in declared_options(KINDS[name])]
    for known, option in declared_options(KINDS[name]):
        first, last = option.help[0], option.help.rstrip(" .")
        assert first.strip(), known.name
        assert option.help.endswith((".", "...")), f"{known.name}: {last}"


@pytest.mark.parametrize("name", KINDS)
def test_defaults_are_within_their_range_and_choices(name):
    for known, option in declared_options(KINDS[name]):
        value = known.default
        if value in (MISSING, None):
            continue
        for bound, holds in (
            (("min", value.__ge__), ("exclusive_min", value.__gt__))
            if isinstance(value, int | float)
            else ()
        ):
            limit = getattr(option, bound)
            assert limit is None or holds(type(value)(limit)), flag(known)
        parts = value if isinstance(value, tuple) and option.commas else (value,)
        assert not option.choices or set(parts) <= set(option.choices), flag(known)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EvaluateOptions(Path("r"), "c", samples=1), "--samples 1: it must be 0, or 2"),
        (lambda: EvaluateOptions(Path("r"), "c", metrics=("spice",)), "--metrics spice: use one"),
        (lambda: EvaluateOptions(Path("r"), "c", curve=(0.5,)), "--curve 0.5: it needs --samples"),
        (
            lambda: EvaluateOptions(Path("r"), "c", samples=2, curve=(0.5, 0.5)),
            "--curve 0.5,0.5: give each temperature once",
        ),
        (
            lambda: EvaluateOptions(Path("r"), "c", samples=2, curve=("a",)),
            "--curve a: it must be a list of numbers",
        ),
        (
            lambda: EvaluateOptions(Path("r"), "c", samples=2, curve=(0.0,), top_p=0.5),
            "--top-p 0.5: it needs --temperature",
        ),
        (lambda: CompareRequest(markdown=True, latex=True), "--markdown and --latex"),
        (lambda: CompareOptions([Path("r"), Path("r")]), "r: is given twice"),
        (lambda: RepairOptions(Path("c"), weights="w"), "--weights w: it needs --images"),
        (lambda: DoctorOptions(sample=3), "--sample 3: it needs IMAGES"),
        (lambda: PreprocessOptions(Path("a"), Path("c")), "give either --images DIR or --capt"),
        (
            lambda: PreprocessOptions(Path("a"), Path("c"), captions_only=True, tokenizer="x"),
            "--tokenizer x: use one of whitespace",
        ),
    ],
)
def test_options_are_checked_together(make, message):
    with pytest.raises(OptionError) as caught:
        make()
    assert message in str(caught.value)


def test_the_fewest_shapes_are_those_that_fill_every_split():
    ranges = {f.name: declared.min for f, declared in declared_options(ShapesOptions)}
    assert ranges["images"] == MIN_IMAGES


def test_options_load_neither_torch_nor_numpy():
    code = "import sys, multispace.cli; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
