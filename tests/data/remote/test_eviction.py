import os
import shutil
import time
from dataclasses import replace

import pytest
from filelock import FileLock
from support.rows import make_cache

from multispace.data.cache.format.manifest import Manifest, write_manifest
from multispace.data.cache.format.manifest_reader import read_manifest
from multispace.data.remote.eviction import make_room, mark, note_use, size_limit
from multispace.errors import CacheError


@pytest.fixture
def shards(tmp_path):
    """Return the entries of three shards of a cache, the first two of which have one size."""
    make_cache(tmp_path / "source")
    return read_manifest(tmp_path / "source").shards


def fetched(root, shards, *, age=100):
    """Put marked shards into a local copy, as if they had been used ``age`` seconds ago."""
    root.mkdir(parents=True, exist_ok=True)
    mark(root, shards)
    for shard in shards:
        shutil.copy(root.parents[1] / "source" / shard.file, root / shard.file)
        name = shard.file.removeprefix("features/").removesuffix(".h5")
        then = time.time() - age
        os.utime(root / f"features/.fetched-{name}", (then, then))
    return root


def here(root):
    return {f"features/{path.name}" for path in (root / "features").glob("*.h5")}


def test_the_longest_unused_shard_of_all_copies_goes_first(tmp_path, shards):
    one = fetched(tmp_path / "kept/one", shards[:1], age=50)
    two = fetched(tmp_path / "kept/two", shards[:2], age=100)
    note_use(two, shards[1:2])
    limit = sum(shard.bytes for shard in (shards[0], shards[1], shards[2]))
    make_room(one, shards[2:], limit)
    assert (here(one), here(two)) == ({shards[0].file}, {shards[1].file})
    make_room(one, shards[2:], shards[2].bytes)
    assert here(one) == here(two) == set()
    assert not list(tmp_path.rglob("kept/*/features/.fetched-*"))


def test_nothing_goes_where_all_fits(tmp_path, shards):
    one = fetched(tmp_path / "kept/one", shards)
    make_room(one, shards, sum(shard.bytes for shard in shards))
    assert len(here(one)) == 3


def test_what_is_needed_stays(tmp_path, shards):
    one = fetched(tmp_path / "kept/one", shards[:2])
    make_room(one, shards[1:], shards[1].bytes + shards[2].bytes)
    assert here(one) == {shards[1].file}


def test_copies_in_use_by_others_are_left_alone(tmp_path, shards):
    one, two = tmp_path / "kept/one", fetched(tmp_path / "kept/two", shards[:2])
    one.mkdir()
    with FileLock(two / ".lock"):
        make_room(one, shards[2:], shards[2].bytes)
    assert len(here(two)) == 2
    make_room(one, shards[2:], shards[2].bytes)
    assert here(two) == set()


@pytest.mark.parametrize(
    "change", ["no mark", "listed", "manifest", "other bytes", "mark of bytes", "link", "mark link",
               "folder link", "copy link"],
)  # fmt: skip
def test_no_file_but_its_own_is_removed(tmp_path, shards, change):
    one, two = tmp_path / "kept/one", fetched(tmp_path / "kept/two", shards[:1])
    one.mkdir()
    path = two / shards[0].file
    place = path.with_name(f".fetched-{path.stem}")
    if change == "no mark":
        place.unlink()
    elif change == "listed":
        write_manifest(two, replace(Manifest(), spec=None, shards=shards[:1]))
    elif change == "manifest":
        (two / "cache.json").write_text("{}")
    elif change == "other bytes":
        path.write_bytes(b"precious")
    elif change == "mark of bytes":
        place.write_bytes(b"precious")
    elif change in ("link", "mark link"):
        moved = path if change == "link" else place
        moved.rename(tmp_path / "elsewhere")
        moved.symlink_to(tmp_path / "elsewhere")
    elif change == "folder link":
        (two / "features").rename(tmp_path / "elsewhere")
        (two / "features").symlink_to(tmp_path / "elsewhere")
    else:
        two.rename(tmp_path / "elsewhere")
        two.symlink_to(tmp_path / "elsewhere")
    before = {p: p.lstat().st_mtime_ns for p in tmp_path.rglob("*") if not p.is_dir()}
    make_room(one, shards[2:], shards[2].bytes)
    after = {p: p.lstat().st_mtime_ns for p in tmp_path.rglob("*") if not p.is_dir()}
    after.pop(two / ".lock", None)
    assert after == before


def test_what_alone_exceeds_the_limit_is_refused(tmp_path, shards):
    one = fetched(tmp_path / "kept/one", shards[:1])
    with pytest.raises(
        CacheError, match="2 shards with .*; ask for fewer images at a time, set MU"
    ):
        make_room(one, shards[:2], shards[0].bytes + 1)
    assert here(one) == {shards[0].file}


def test_a_mark_is_not_set_through_a_link(tmp_path, shards):
    (tmp_path / "mine").write_bytes(b"")
    os.utime(tmp_path / "mine", (1, 1))
    features = tmp_path / "kept/one/features"
    features.mkdir(parents=True)
    name = shards[0].file.removeprefix("features/").removesuffix(".h5")
    (features / f".fetched-{name}").symlink_to(tmp_path / "mine")
    mark(features.parent, shards[:1])
    note_use(features.parent, shards)
    assert (tmp_path / "mine").stat().st_mtime == 1


def test_a_shard_that_lay_there_unmarked_is_not_marked(tmp_path, shards):
    one = fetched(tmp_path / "kept/one", shards[:1])
    for place in (one / "features").glob(".fetched-*"):
        place.unlink()
    mark(one, shards)
    assert len(list((one / "features").glob(".fetched-*"))) == 2


@pytest.mark.parametrize(
    ("text", "size"), [("", 20 * 10**9), ("500MB", 5 * 10**8), ("1.5 gb", 15 * 10**8)]
)
def test_the_limit_is_read_with_its_unit(monkeypatch, text, size):
    monkeypatch.setenv("MULTISPACE_CACHE_LIMIT", text)
    assert size_limit() == size
