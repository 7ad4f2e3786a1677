"""Lack of memory and disk space: how it is recognised, and what commands leave behind."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from support.tiny import make_collection

from multispace.cli import main
from multispace.exhaustion import is_out_of_memory, is_out_of_space

TINY = ("--backbone", "resnet18", "--weights", "random:3", "--resize", "32", "--crop", "32",
        "--min-count", "1", "--device", "cpu", "--workers", "1")  # fmt: skip


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``size`` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def shapes(folder: Path, cache: Path) -> tuple[Path, tuple[object, ...]]:
    return folder / "shapes", ("shapes", folder / "shapes", "--images", "20")


def preprocess(folder: Path, cache: Path) -> tuple[Path, tuple[object, ...]]:
    collection = make_collection(folder / "collection")
    words = ("--annotations", collection / "train.json", "--images", collection / "images")
    return folder / "new", ("preprocess", *words, "--cache", folder / "new", *TINY)


def export(folder: Path, cache: Path) -> tuple[Path, tuple[object, ...]]:
    out = folder / "vectors.npy"
    return out, ("cache", "export", cache, "--out", out, "--names", folder / "keys.txt")


@pytest.mark.parametrize("command", [shapes, preprocess, export])
def test_a_command_on_a_full_disk_names_the_file_and_can_be_run_again(
    tiny_cache, tmp_path, command: Callable[..., tuple[Path, tuple[object, ...]]]
):
    made, words = command(tmp_path, tiny_cache)
    with largest_file(1000):
        failed = run(*words)
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1].startswith(f"error: {made}")
    assert "File too large" in failed.stderr
    assert "make room" in failed.stderr
    assert "Traceback" not in failed.output
    assert run(*words).exit_code == 0


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shape '[2]' is invalid"),
        ValueError("out of memory"),
        FileNotFoundError(2, "No such file"),
        RecursionError(),
    ],
)
def test_other_errors_mean_something_else(error):
    assert not is_out_of_memory(error)
    assert not is_out_of_space(error)


def test_what_the_libraries_raise_is_recognised():
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(1 << 46, dtype=torch.float64)
    with pytest.raises(MemoryError) as of_numpy:
        np.empty((1 << 40, 1 << 10))
    assert is_out_of_memory(of_torch.value)
    assert is_out_of_memory(of_numpy.value)
