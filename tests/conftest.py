"""Fixtures that many tests share: a tiny collection, its cache, and trained runs.

They are made once in a test session. A test that changes one of them copies it first (``run_copy``
does so for a run); the fixtures check at the end of the session that nobody forgot to.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and for child processes

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """Yield ``folder``, and fail if a file below it was added, removed or written."""

    def listing() -> dict[str, tuple[int, int]]:
        found = {str(path.relative_to(folder)): path.lstat() for path in folder.rglob("*")
                 if path.is_file() and path.name != ".lock"}  # fmt: skip
        return {name: (status.st_mtime_ns, status.st_size) for name, status in found.items()}

    before = listing()
    yield folder
    assert listing() == before, f"a test changed {folder}, which all tests share; copy it first"


@pytest.fixture(scope="session")
def tiny_collection(tmp_path_factory) -> Iterator[Path]:
    """The folder of 20 images with two captions each, in COCO form (`support.tiny`)."""
    from support.tiny import make_collection

    with read_only(make_collection(tmp_path_factory.mktemp("tiny") / "collection")) as folder:
        yield folder


@pytest.fixture(scope="session")
def tiny_cache(tiny_collection, tmp_path_factory) -> Iterator[Path]:
    """The folder of a cache of the tiny collection, with its three splits."""
    from support.tiny import make_cache

    folder = tmp_path_factory.mktemp("tiny") / "cache"
    make_cache(folder, tiny_collection)
    with read_only(folder):
        yield folder


@pytest.fixture(scope="session")
def tiny_run(tiny_cache, tmp_path_factory) -> Iterator[Path]:
    """The folder of a run of `multispace` that has learnt the tiny collection."""
    with read_only(_trained(tiny_cache, tmp_path_factory, "multispace")) as folder:
        yield folder


@pytest.fixture(scope="session")
def tiny_base_run(tiny_cache, tmp_path_factory) -> Iterator[Path]:
    """The folder of a run of `base` that has learnt the tiny collection."""
    with read_only(_trained(tiny_cache, tmp_path_factory, "base")) as folder:
        yield folder


@pytest.fixture
def run_copy(tiny_run, tmp_path) -> Path:
    """A copy of ``tiny_run`` for a test to change."""
    return Path(shutil.copytree(tiny_run, tmp_path / "copy"))


def _trained(cache: Path, factory: pytest.TempPathFactory, system: str) -> Path:
    from support.tiny import train_tiny

    return train_tiny(system, cache, factory.mktemp("tiny") / system)
