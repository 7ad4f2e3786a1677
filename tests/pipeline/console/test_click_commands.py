import errno
import json
import shlex
from dataclasses import dataclass, field

import click
import numpy as np
import pytest
import torch
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from multispace.cli import main
from multispace.errors import DataError, OptionError
from multispace.exit_status import FAILED, SKIPPED
from multispace.fields import Options, argument, option
from multispace.model.options import SYSTEM_KINDS
from multispace.pipeline.console.click_commands import Command, Commands


def commands(group: click.Group = main, *before: str):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *before, name)
        else:
            yield (*before, name), command


ALL = {" ".join(words): command for words, command in commands()}


def shown(*words: str) -> str:
    result = CliRunner().invoke(main, list(words), prog_name="multispace")
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("name", ALL)
def test_every_help_fits_a_page_and_80_columns(name):
    text = shown(*name.split(), "--help")
    lines = text.splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 80
    assert "Examples:" in text


@pytest.mark.parametrize("name", ["train", "preprocess"])
def test_a_long_help_has_a_second_page_with_everything(name):
    first, every = shown(name, "--help"), shown(name, "--help-all")
    flags = {f for p in ALL[name].params if isinstance(p, click.Option) for f in p.opts}
    assert all(f in every for f in flags)
    assert any(f not in first for f in flags)
    assert max(map(len, every.splitlines())) <= 80


def test_help_of_train_names_the_systems_and_who_uses_an_option():
    first, every = shown("train", "--help"), shown("train", "--help-all")
    for system, kind in SYSTEM_KINDS.items():
        assert f"{kind.summary}" in " ".join(first.split()), system
    words = " ".join(every.split())
    assert "--clusters INTEGER Number of most frequent nouns" in words
    assert "in the prior. [ag-cvae; >= 1; default: 80]" in words
    assert "[all but base; >= 1; default: 128; joint: 256]" in words
    assert "default: 128; joint: 16x8]" in words
    assert "default: 0.05; joint, joint-cvae: 1.0]" in words


def test_the_list_of_commands_is_in_the_order_of_work_and_whole():
    text = shown("--help")
    assert list(main.commands) == [
        "shapes", "preprocess", "train", "evaluate", "score", "caption", "compare", "report",
        "explore", "app", "tune", "export", "push", "pull", "doctor", "demo", "cache",
    ]  # fmt: skip
    words = " ".join(text.split())
    for command in main.commands.values():
        assert " ".join(command.help.split()) in words
    assert "130 interrupted" in words
    assert "_MULTISPACE_COMPLETE=bash_source multispace" in words
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", ALL)
def test_the_examples_are_valid_commands(name):
    lines = "\n".join(ALL[name].examples).replace("\\\n", " ").splitlines()
    for line in lines:
        program, *words = shlex.split(line.split(" > ")[0])
        assert program == "multispace"
        assert words[: len(name.split())] == name.split()
        ALL[name].make_context(name, words[len(name.split()) :])


@pytest.mark.parametrize("name", ALL)
def test_every_command_says_what_is_true_after_ctrl_c(name):
    assert ALL[name].interrupted


def completions(*words: str) -> list[str]:
    *before, incomplete = words
    found = ShellComplete(main, {}, "multispace", "_C").get_completions(before, incomplete)
    return [item.value for item in found]


def test_choices_are_completed():
    assert completions("train", "multi") == ["multispace"]
    assert completions("train", "base", "--cell", "") == ["lstm", "gru"]
    assert completions("evaluate", "r", "--checkpoint", "b") == ["best"]
    assert completions("evaluate", "r", "--metrics", "bleu,r") == ["bleu,rouge"]
    assert completions("preprocess", "--tokenizer", "whitespace-") == ["whitespace-lower"]


@dataclass(frozen=True)
class Asked(Options):
    number: int = field(metadata=argument("A number."))
    least: int = option("Another one.", 2, min=1)


@dataclass(frozen=True)
class Answer:
    number: int

    @property
    def exit_status(self) -> int:
        return SKIPPED if self.number > 5 else 0

    @property
    def notes(self) -> list[str]:
        return ["a note"]

    def messages(self) -> list[str]:
        return ["skipped: 6"] if self.number > 5 else []

    def to_json(self) -> dict[str, int]:
        return {"number": self.number}

    def render(self) -> str:
        return f"it is {self.number}"


def call(number: int, *words: str, fail: BaseException | None = None):
    def add(asked: Asked) -> Answer:
        """Add."""
        if fail:
            raise fail
        return Answer(asked.number + asked.least)

    group = Commands("group")
    group.add_command(Command("add", add, [Asked], interrupted="nothing is lost"))
    return CliRunner().invoke(group, ["add", str(number), *words])


def test_a_result_is_printed_as_text_or_as_json():
    result = call(1)
    assert (result.stdout, result.stderr, result.exit_code) == ("it is 3\n", "note: a note\n", 0)
    assert json.loads(call(1, "--least", "1", "--json").stdout) == {"number": 2}
    assert call(1, "--json").stderr == ""


def test_what_was_skipped_is_named_and_the_status_is_3():
    for words in ([], ["--json"]):
        result = call(4, *words)
        assert (result.exit_code, "skipped: 6\n" in result.stderr) == (3, True)


@pytest.mark.parametrize(
    ("fail", "status", "text"),
    [
        (DataError("is damaged", where="a.json", hint="make it anew"), 1,
         "error: a.json: is damaged; make it anew\n"),
        (OptionError("wrong", where="--least 0"), 2, "error: --least 0: wrong\n"),
        (FileNotFoundError(2, "No such file or directory", "x"), 1,
         "error: x: No such file or directory\n"),
        (PermissionError(13, "Permission denied"), 1, "error: Permission denied\n"),
        (KeyboardInterrupt(), 130, "interrupted: nothing is lost\n"),
    ],
)  # fmt: skip
def test_a_failure_is_one_line_and_an_exit_status(fail, status, text):
    result = call(1, fail=fail)
    assert (result.stdout, result.stderr, result.exit_code) == ("", text, status)


def allocation(*sizes: int) -> Exception:
    """Return torch's own error about memory that no machine has."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(*sizes, dtype=torch.float64)
    return caught.value


def matrix() -> Exception:
    """Return NumPy's error about memory that no machine has."""
    with pytest.raises(MemoryError) as caught:
        np.empty((1 << 40, 1 << 10))
    return caught.value


EXHAUSTED = {
    "Python": (MemoryError(), "out of memory; "),
    "NumPy": (matrix(), "out of memory (Unable to allocate "),
    "torch": (allocation(1 << 46), "out of memory ("),
    "GPU": (torch.OutOfMemoryError("CUDA out of memory. Tried\n2 GiB"), "out of memory (CUDA"),
    "process": (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory ("),
    "full disk": (OSError(errno.ENOSPC, "No space left on device", "a.h5"), "a.h5: No space left"),
    "file size": (OSError(errno.EFBIG, "File too large"), "File too large; "),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded", "a"), "a: Disk quota exceeded; "),
}


@pytest.mark.parametrize("what", EXHAUSTED)
@pytest.mark.parametrize("name", ALL)
def test_lack_of_memory_or_space_is_one_line_in_every_command(name, what, monkeypatch, capsys):
    fail, text = EXHAUSTED[what]

    def run() -> None:
        raise fail

    command = ALL[name]
    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(command, "kinds", [])
    monkeypatch.setattr(command, "partial", None)
    context = click.Context(command)
    context.params = {"as_json": False, "debug": False}
    with pytest.raises(SystemExit) as caught:
        command.invoke(context)
    printed = capsys.readouterr()
    assert (caught.value.code, printed.out, printed.err.count("\n")) == (FAILED, "", 1)
    assert printed.err.startswith(f"error: {text}")
    assert printed.err.endswith(f"; {command.interrupted}\n")  # what is kept
    assert "free memory" in printed.err or "make room" in printed.err


def test_a_value_out_of_range_is_wrong_usage():
    result = call(1, "--least", "0")
    assert (result.stderr, result.exit_code) == ("error: --least 0: it must be at least 1\n", 2)


def test_what_nobody_foresaw_keeps_its_traceback():
    assert isinstance(call(1, fail=ZeroDivisionError()).exception, ZeroDivisionError)


def test_control_characters_do_not_reach_the_terminal():
    hostile = DataError("is \x1b[31mred\x07", where="a\x00b", hint="look\x9b again")
    result = call(1, fail=hostile)
    assert result.stderr == "error: a b: is  [31mred ; look  again\n"


def test_the_details_of_an_error_are_printed_as_json():
    class ConflictError(DataError):
        def to_json(self):
            return {"conflicts": [1]}

    assert json.loads(call(1, "--json", fail=ConflictError("two")).stdout) == {"conflicts": [1]}
    assert call(1, fail=ConflictError("two")).stdout == ""
