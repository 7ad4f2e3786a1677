"""A process of its own that reads caches, so that a crash, a hang or a greed for memory shows."""

import gc
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

from multispace.data.cache.format.manifest import Manifest
from multispace.data.cache.reader import Cache
from multispace.data.maintenance.verify import verify_cache
from multispace.errors import DataError

SECONDS = 20  # of the wall clock, for a cache that is read in hundredths of one
MEMORY = 256 << 20  # bytes beyond what reading a good cache takes

_CODE = "import sys; from support import guarded; guarded.serve(sys.argv[1])"


class Reader:
    """Reads caches in another process, which is started anew after it has died."""

    def __init__(self, good: Path) -> None:
        self._good = good  # read first: what is loaded on the way is not held against the rest
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, root: Path) -> dict[str, str]:
        """Return what became of each file of a cache: "read", or the name of a typed error.

        :raises AssertionError: the process died or hung; says with what last words.
        """
        if self._process is None:
            self._start()
        return self._ask(root)

    def close(self) -> None:
        self._stop()
        self._log.close()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE, str(self._good)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        assert self._process.stdout.readline() == b"ready\n"

    def _ask(self, root: Path) -> dict[str, str]:
        process = self._process
        start = os.fstat(self._log.fileno()).st_size
        process.stdin.write(f"{root}\n".encode())
        process.stdin.flush()
        if select.select([process.stdout], [], [], SECONDS)[0]:
            if reply := process.stdout.readline():
                return json.loads(reply)
            end = f"died ({process.wait()})"
        else:
            end = f"did not end in {SECONDS} s"
        self._stop()
        last = os.pread(self._log.fileno(), 1 << 20, start).decode(errors="replace")
        raise AssertionError(f"the reader {end}:\n{last[-4000:]}")


def serve(good: str) -> None:
    """Read the caches that are named on stdin, a line each; end at the first untyped error."""
    examine(Path(good))
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(examine(Path(line.rstrip("\n")))), flush=True)
        gc.collect()  # maps that hang on errors


def examine(root: Path) -> dict[str, str]:
    """Read all of a cache; see that it is right or refused, and that `verify` says the same."""
    found = {}
    try:
        cache = Cache.open(root)
    except DataError as error:
        found["cache.json"] = _refused(error)
    else:
        found["cache.json"] = "read"
        for name, look in (
            ("features", _features),
            ("vocabulary", _vocabulary),
            ("failures", _failures),
        ):
            try:
                found[name] = look(cache)
            except DataError as error:
                found[name] = _refused(error)
        for split in cache.manifest.captions:
            try:
                found[f"captions/{split}"] = _captions(cache, split)
            except DataError as error:
                found[f"captions/{split}"] = _refused(error)
    for quick in (True, False):
        verified = verify_cache(root, quick=quick)
        for line in (*map(str, verified.faults), *verified.notes):
            _check_line(line)
        json.dumps(verified.to_json())
    if found["cache.json"] == "read":
        _check_agreement(cache.manifest, found, {fault.file for fault in verified.faults})
    return found


def _check_agreement(manifest: Manifest, found: dict[str, str], faulty: set[str]) -> None:
    """See that what `verify` finds no fault with is what can be read."""
    words = {manifest.vocabulary.file} if manifest.vocabulary is not None else set()
    parts = {f"captions/{split}": {e.file, *words} for split, e in manifest.captions.items()}
    if words:
        parts["vocabulary"] = words
    if manifest.spec is not None:
        parts["features"] = {e.file for shard in manifest.shards for e in (shard, shard.keys) if e}
    for name, files in parts.items():
        assert (found[name] == "read") == faulty.isdisjoint(files), (name, found, faulty)


def _refused(error: DataError) -> str:
    _check_line(str(error))
    return type(error).__name__


def _check_line(line: str) -> None:
    assert len(line.splitlines()) == 1, line
    assert "\x1b" not in line
    assert len(line) < 4000, line[:4000]


def _features(cache: Cache) -> str:
    """Compare each vector with what the file says at its key, whoever opens it."""
    keys = list(cache.rows)
    got = cache.features(keys)
    want = {}
    for entry in cache.manifest.shards:
        with h5py.File(cache.root / entry.file, "r") as file:
            names = [name.decode() for name in file["key"][()].tolist()]
            want.update(zip(names, file["features"][()], strict=True))
    assert got.shape == (len(want), cache.spec.dimension)
    assert np.isfinite(got).all()
    for key, row in zip(keys, got, strict=True):
        np.testing.assert_array_equal(row, want[key])
    return "read"


def _failures(cache: Cache) -> str:
    assert all(isinstance(reason, str) for reason in cache.failures.values())
    return "read"


def _vocabulary(cache: Cache) -> str:
    got = cache.vocabulary()
    assert (
        list(got.words)
        == json.loads((cache.root / cache.manifest.vocabulary.file).read_bytes())["words"]
    )
    return "read"


def _captions(cache: Cache, split: str) -> str:
    got = cache.captions(split)
    assert got.split == split
    with h5py.File(cache.root / cache.manifest.captions[split].file, "r") as file:
        assert [key.encode() for key in got.keys] == file["key"][()].tolist()
        for name in ("tokens", "offsets"):
            np.testing.assert_array_equal(getattr(got, name), file[name][()])
        np.testing.assert_array_equal(got.image, file["caption_picture"][()])
        assert "".join(got.texts).encode() == file["text"][()].tobytes()
    return "read"
