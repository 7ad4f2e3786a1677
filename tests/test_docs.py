"""The commands and options that the documentation names exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from multispace.cli import main
from multispace.pipeline.demo import OWN_IMAGES

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
CALL = re.compile(r"(?:multispace|cli\.py) ((?:cache )?[a-z]+)([^\n`#|]*)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
OF_OTHERS = {"--nproc-per-node"}  # of torchrun


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, set[str]]]:
    """Yield each command with the names of its options."""
    context = click.Context(command)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from leaves(inner, (*path, name))
    else:
        names = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
        yield " ".join(path), names | {"--help"}


COMMANDS = dict(leaves(main))
ALL = set().union(*COMMANDS.values())


def unknown(text: str) -> list[str]:
    """Return the commands and options of a page that do not exist."""
    text = re.sub(r"\\\n\s*", " ", text)
    found = [name for name in re.findall(r"`(--[a-z][a-z0-9-]*)", text) if name not in ALL]
    for command, rest in CALL.findall(text):
        if command in COMMANDS:
            options = set(OPTION.findall(rest)) - COMMANDS[command] - OF_OTHERS
            found += [f"{command} {name}" for name in sorted(options)]
        elif command.startswith("cache "):
            found.append(command)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_names_commands_and_options_that_exist(page: Path) -> None:
    removed = {"CHANGELOG.md": {"preprocess --compile", "--compile"}}.get(page.name, set())
    assert set(unknown(page.read_text(encoding="utf-8"))) <= removed


def test_the_demo_names_commands_and_options_that_exist() -> None:
    text = "\n".join(OWN_IMAGES)
    assert set(re.findall("multispace ([a-z]+)", text)) == {
        "preprocess", "train", "evaluate", "report",
    }  # fmt: skip
    assert unknown(text) == []


def test_what_does_not_exist_is_found() -> None:
    text = (
        "    multispace train latent \\\n        --no-such 1\n`--other` and `multispace cache gone`"
    )
    assert unknown(text) == ["--other", "train --no-such", "cache gone"]
