"""A run of three shards, and a conversion, killed at every step in a process of their own."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from support.killer import Killer
from support.rows import CAPTIONS, KEYS, append, assert_whole, put_text, vectors
from support.version_1 import to_version_1

from multispace.data.cache.format.listed_file import read_entry
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.data.maintenance.verify import verify_cache


def run(root):
    """Do what is not done yet."""
    with write_cache(root) as writer:
        put_text(writer, {"train": CAPTIONS["train"]})
        missing = [key for key in KEYS if key not in writer.digests]
        for start in range(0, len(missing), 2):
            append(writer, missing[start : start + 2])
        append(writer, [], {"bad.jpg": "empty file"})


def convert(root):
    """Make the first write to a cache of version 1, and replace what is in it."""
    with write_cache(root) as writer:
        missing = [key for key in ["x.jpg", "y.jpg"] if key not in writer.digests]
        if missing:
            append(writer, missing, {"bad.jpg": "empty file"})
        if "val" not in writer.manifest.captions:
            put_text(writer, CAPTIONS)
        writer.put_captions(replace(Cache(root, writer.manifest).captions("val"), factors=(1, 2)))


def run_and_kill(folder, work):
    """Run in forked processes, in ``folder``/0, 1 ..., until one lives to its end."""
    for last in itertools.count():
        if (folder / "begun").exists():
            shutil.copytree(folder / "begun", folder / str(last))
        child = os.fork()
        if child == 0:
            killer = Killer(last)
            os.fsync = lambda descriptor: None  # slow, and only a power cut needs it
            steps = ((tempfile, "mkstemp"), (os, "fsync"), (os, "replace"), (os, "unlink"))
            for module, name in steps:
                setattr(module, name, killer.before(getattr(module, name)))
            os.fdopen = killer.open
            work(folder / str(last))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            print(last)
            return
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            raise SystemExit(f"step {last}: status {status}")


def test_a_run_killed_at_any_step_is_finished_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    count = killed_at_each_step(tmp_path, "run")
    # Fifteen files (vocabulary, captions, three shards with their key lists, failures, and the
    # manifest after each of these six) of five steps: before it is made, half written, before it
    # is synced, before it is renamed, and before its folder is synced.
    assert count == 15 * 5
    control = tmp_path / str(count)
    assert_whole(control)
    ended = (control / "cache.json").read_bytes()
    states = set()
    for last in range(count):
        root = tmp_path / str(last)
        there = {path: path.read_bytes() for path in (root / "features").glob("*.h5")}
        if (root / "cache.json").exists():  # a reader sees a whole cache
            cache = Cache.open(root)
            for entry in cache.manifest.files():
                read_entry(root, entry)
            for shard in cache.shards:
                np.testing.assert_array_equal(shard.features, vectors(shard.keys))
            states.add((len(cache.manifest.captions), len(cache.shards), len(there)))
        with write_cache(root) as writer:
            assert set(writer.digests) == set(KEYS[: 2 * len(there)])
            assert not list(root.rglob(".partial-*"))
        run(root)
        assert_whole(root)
        for path, content in there.items():
            assert path.read_bytes() == content
        assert (root / "cache.json").read_bytes() == ended
        assert Cache.open(root).captions("train").keys == tuple(CAPTIONS["train"])
        assert Cache.open(root).failures == {"bad.jpg": "empty file"}
    # Among them: a shard on disk that is not listed, for each of the three.
    assert {(1, n, n + 1) for n in range(3)} <= states


def test_a_conversion_killed_at_any_step_leaves_a_whole_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    begun = tmp_path / "begun"
    run(begun)
    with write_cache(begun) as writer:
        put_text(writer, CAPTIONS)
    to_version_1(begun)
    content = {path: path.read_bytes() for path in (begun / "features").glob("*.h5")}
    count = killed_at_each_step(tmp_path, "convert")
    ended = files(tmp_path / str(count))
    versions = set()
    for last in range(count):
        root = tmp_path / str(last)
        manifest = Cache.open(root).manifest
        versions.add(manifest.version)
        assert verify_cache(root).faults == ()
        there = KEYS + (["x.jpg", "y.jpg"] if len(manifest.shards) > 3 else [])
        np.testing.assert_array_equal(Cache.open(root).features(there), vectors(there))
        assert set(Cache.open(root).manifest.captions) == set(CAPTIONS)
        assert "bad.jpg" in Cache.open(root).failures
        convert(root)
        assert verify_cache(root).faults == ()
        assert files(root) == ended
        for path, bytes_before in content.items():
            assert (root / "features" / path.name).read_bytes() == bytes_before
    assert versions == {1, 2}
    # Nothing else is left: neither files of version 1 nor those that were replaced.
    listed = {entry.file for entry in Cache.open(tmp_path / str(count)).manifest.files()}
    assert set(ended) == {"cache.json", *listed}


def files(root):
    """Return path to bytes of all that a cache is."""
    paths = (path for path in root.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def killed_at_each_step(folder, work):
    """Call a function of this file in processes that are killed; return how many there were."""
    done = subprocess.run(
        [sys.executable, __file__, str(folder), work],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


if __name__ == "__main__":
    run_and_kill(Path(sys.argv[1]), {"run": run, "convert": convert}[sys.argv[2]])
