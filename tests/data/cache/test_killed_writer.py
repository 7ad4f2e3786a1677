"""A run of three shards, killed at every step in a process of its own."""

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from support.killer import Killer
from support.rows import CAPTIONS, KEYS, append, assert_whole, put_text, vectors

from multispace.data.cache.listed_file import read_entry
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache


def run(root):
    """Do what is not done yet."""
    with write_cache(root) as writer:
        put_text(writer, {"train": CAPTIONS["train"]})
        missing = [key for key in KEYS if key not in writer.digests]
        for start in range(0, len(missing), 2):
            append(writer, missing[start : start + 2])
        append(writer, [], {"bad.jpg": "empty file"})


def run_and_kill(folder):
    """Run in forked processes, in ``folder``/0, 1 ..., until one lives to its end."""
    for last in itertools.count():
        child = os.fork()
        if child == 0:
            killer = Killer(last)
            os.fsync = lambda descriptor: None  # slow, and only a power cut needs it
            for module, name in ((tempfile, "mkstemp"), (os, "fsync"), (os, "replace")):
                setattr(module, name, killer.before(getattr(module, name)))
            os.fdopen = killer.open
            run(folder / str(last))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            print(last)
            return
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            raise SystemExit(f"step {last}: status {status}")


def test_a_run_killed_at_any_step_is_finished_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    count = int(done.stdout)
    # Fourteen files (vocabulary, captions, three shards with their lists of keys, the manifest
    # after each and at the end) of five steps: before it is made, half written, before it is
    # synced, before it is renamed, and before its folder is synced.
    assert count == 14 * 5
    control = tmp_path / str(count)
    assert_whole(control)
    ended = (control / "cache.json").read_bytes()
    states = set()
    for last in range(count):
        root = tmp_path / str(last)
        there = {path: path.read_bytes() for path in (root / "features").glob("*.h5")}
        if (root / "cache.json").exists():  # a reader sees a whole cache
            cache = Cache.open(root)
            for entry in (*cache.manifest.captions.values(), cache.manifest.vocabulary):
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
        assert json.loads(ended)["failures"] == {"bad.jpg": "empty file"}
    # Among them: a shard on disk that is not listed, for each of the three.
    assert {(1, n, n + 1) for n in range(3)} <= states


if __name__ == "__main__":
    run_and_kill(Path(sys.argv[1]))
