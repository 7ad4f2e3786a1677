import hashlib
import json
import os
import random
from dataclasses import replace

import h5py
import numpy as np
import pytest
import rfc8785
from support.faults import flip, list_anew, plain_shard
from support.rows import (
    KEYS,
    SPEC,
    append,
    digests,
    make_cache,
    put_text,
    text_file,
    vectors,
)
from support.version_1 import to_version_1
from support.watching import Watcher

from multispace.data.cache.feature_rows import non_finite_rows
from multispace.data.cache.format import listed_file
from multispace.data.cache.format.listed_file import UNLINK_HINT, describe, write_named
from multispace.data.cache.format.manifest import Manifest, write_manifest
from multispace.data.cache.format.manifest_reader import is_other_version
from multispace.data.cache.format.shard import write_shard
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.data.captions.encoded_captions import captions_bytes
from multispace.data.maintenance.verify import Fault, verify_cache
from multispace.errors import CacheError, ShardError


@pytest.fixture
def root(tmp_path):
    make_cache(tmp_path / "cache")
    return tmp_path / "cache"


def test_a_whole_cache_has_no_faults(root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    found = verify_cache(root)
    manifest = Cache.open(root).manifest
    files = [root / "cache.json", *(root / entry.file for entry in manifest.files())]
    assert (found.faults, found.notes) == ((), ())
    assert (found.files, found.rows) == (len(files), len(KEYS)) == (10, manifest.rows)
    assert found.bytes == sum(path.stat().st_size for path in files)
    assert json.loads(json.dumps(found.to_json()))["faults"] == []
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("damaged", [False, True])
def test_each_listed_byte_is_counted_once(root, quick, damaged):
    entries = list(Cache.open(root).manifest.files())
    if damaged:
        for entry in entries[::2]:
            (root / entry.file).unlink()
    watch = Watcher()
    verify_cache(root, quick=quick, watch=watch)
    assert sorted(watch.counted) == sorted(entry.bytes for entry in entries)
    assert sum(watch.counted) == watch.total


def test_every_flipped_bit_is_found(root):
    generator = random.Random(5)
    files = [p for p in root.rglob("*") if p.is_file() and p.name != ".lock"]
    assert len(files) == 10
    for path in files:
        name = path.relative_to(root).as_posix()
        whole = path.read_bytes()
        for _ in range(30):
            bit = generator.randrange(8 * len(whole))
            flip(path, bit)
            faults = verify_cache(root).faults
            path.write_bytes(whole)
            assert [fault.file for fault in faults] == [name], f"bit {bit}"
            assert "`" in faults[0].hint
    assert verify_cache(root).faults == ()


@pytest.mark.parametrize("quick", [False, True])
def test_files_that_are_gone_cut_or_links_are_found(root, tmp_path, quick):
    manifest = Cache.open(root).manifest
    gone, cut, linked = (root / entry.file for entry in manifest.shards)
    gone.unlink()
    size = cut.stat().st_size
    os.truncate(cut, 100)
    linked.symlink_to(linked.rename(tmp_path / "elsewhere"))
    captions = text_file(root, "val")
    captions.unlink()
    hint = f"`multispace cache repair {root} --images DIR`"
    assert verify_cache(root, quick=quick).faults == (
        Fault(manifest.shards[0].file, "not there as a file", hint),
        Fault(manifest.shards[1].file, f"100 bytes, the manifest says {size}", hint),
        Fault(
            manifest.shards[2].file,
            "is a symbolic link; links in a cache are not followed",
            UNLINK_HINT,
        ),
        Fault(
            f"captions/{captions.name}",
            "not there as a file",
            f"`multispace preprocess --annotations FILE --split val --cache {root} "
            "--captions-only`",
        ),
    )


def test_quick_reads_no_shard(root, monkeypatch):
    flip(root / Cache.open(root).manifest.shards[0].file, 8000)
    with monkeypatch.context() as patch:
        patch.setattr(listed_file, "_digest", lambda file: pytest.fail("hashed"))
        patch.setattr(h5py, "File", lambda *a: pytest.fail("opened"))
        found = verify_cache(root, quick=True)
    assert (found.faults, found.rows, found.quick) == ((), len(KEYS), True)
    flip(root / "cache.json", 3001)
    assert [fault.file for fault in verify_cache(root, quick=True).faults] == ["cache.json"]


def test_damaged_files_are_not_opened(root, monkeypatch):
    bad = [*root.glob("*/*.h5")]
    for path in bad:
        flip(path, 8 * 1000)
    monkeypatch.setattr(h5py, "File", lambda *a: pytest.fail("opened"))
    assert {fault.file for fault in verify_cache(root).faults} == {
        path.relative_to(root).as_posix() for path in bad
    }


def test_a_file_that_cannot_be_read_is_a_fault(root, monkeypatch):
    bad = root / Cache.open(root).manifest.shards[1].file
    inode, real = bad.stat().st_ino, listed_file._digest

    def failing(file):
        if os.fstat(file.fileno()).st_ino == inode:
            raise OSError(5, "Input/output error")
        return real(file)

    monkeypatch.setattr(listed_file, "_digest", failing)
    (fault,) = verify_cache(root).faults
    assert (root / fault.file, fault.what) == (bad, "cannot be read (Input/output error)")


def test_a_damaged_or_missing_manifest_is_one_fault(root):
    hint = f"`multispace cache repair {root}`"
    flip(root / "cache.json", 0)
    (fault,) = verify_cache(root).faults
    assert (fault.file, fault.hint) == ("cache.json", hint)
    assert fault.what.startswith("not JSON")
    (root / "cache.json").unlink()
    assert verify_cache(root).faults == (Fault("cache.json", "not found", hint),)


def test_another_version_is_not_taken_for_damage(root):
    path = root / "cache.json"
    body = json.loads(path.read_bytes())
    body["version"] = 3
    path.write_bytes(rfc8785.dumps(body))
    assert not is_other_version(path.read_bytes())  # the digest says that only the number changed
    assert verify_cache(root).faults[0].hint == f"`multispace cache repair {root}`"
    body.pop("digest")
    body["digest"] = hashlib.sha256(rfc8785.dumps(body)).hexdigest()
    path.write_bytes(rfc8785.dumps(body))
    assert is_other_version(path.read_bytes())
    assert verify_cache(root).faults == (
        Fault("cache.json", "version 3, this software reads 1 and 2", "update this software"),
    )


def test_a_folder_that_is_no_cache_is_said_so(tmp_path):
    with pytest.raises(CacheError, match="not a cache; `multispace preprocess --cache"):
        verify_cache(tmp_path)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_not_finite_are_found(tmp_path, dtype, value):
    spec = replace(SPEC, dtype=dtype)
    features = vectors(KEYS).astype(dtype)
    features[3, 5] = value
    entry = plain_shard(tmp_path, 0, KEYS, features, spec)
    write_manifest(tmp_path, Manifest(spec, (entry,)))
    (fault,) = verify_cache(tmp_path).faults
    assert fault.file == entry.file
    assert fault.what == f"1 vectors are not finite, the first is that of {KEYS[3]}"


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rows_that_are_not_finite(dtype):
    features = np.full((700, 1000), np.finfo(dtype).max, dtype)
    features[::2] *= -1
    features[1, 1] = np.finfo(dtype).smallest_subnormal
    assert non_finite_rows(features).tolist() == []
    for row, value in ((0, np.nan), (261, np.inf), (263, -np.nan), (699, -np.inf)):
        features[row, -1 if row else 0] = value
    assert non_finite_rows(features).tolist() == [0, 261, 263, 699]
    assert non_finite_rows(np.zeros((2, 1 << 19), dtype)).tolist() == []


def test_what_the_manifest_says_of_a_shard_is_checked(root):
    shards = Cache.open(root).manifest.shards
    list_anew(root, shards=(replace(shards[0], rows=3), *shards[1:]))
    (fault,) = verify_cache(root).faults
    assert (fault.file, fault.what) == (shards[0].file, "2 rows, the manifest says 3")


def test_a_shard_of_another_meaning_is_found(root):
    other = replace(SPEC, pooling="maximum")
    entry = write_shard(root / "features", 9, other, ["x"], digests(["x"]), vectors(["x"]))
    list_anew(root, shards=(*Cache.open(root).manifest.shards, entry))
    (fault,) = verify_cache(root).faults
    assert fault.file == entry.file
    assert "made differently: pooling: 'global average' and 'maximum'" in fault.what


def test_a_key_in_two_shards_is_found(root):
    shards = Cache.open(root).manifest.shards
    again = KEYS[1:2]
    entry = write_shard(root / "features", 9, SPEC, again, digests(again), vectors(again))
    list_anew(root, shards=(*shards, entry))
    (fault,) = verify_cache(root).faults
    assert fault.file == entry.file
    assert f"the first is {KEYS[1]} in {shards[0].file}" in fault.what


def test_a_shard_that_breaks_the_format_is_found(root):
    entry = Cache.open(root).manifest.shards[0]
    with h5py.File(root / entry.file, "r+") as file:
        file["more"] = [1]
    held = describe(root, root / entry.file)
    path = (root / entry.file).rename(root / "features" / f"00000-{held.sha256[:8]}.h5")
    changed = replace(entry, file=f"features/{path.name}", sha256=held.sha256, bytes=held.bytes)
    list_anew(root, shards=(changed, *Cache.open(root).manifest.shards[1:]))
    (fault,) = verify_cache(root).faults
    assert fault.file == changed.file
    assert fault.what.startswith("holds ['features', 'image_sha256', 'key', 'more']")


def test_failures_are_checked(root):
    list_anew(root, failures={"x.jpg": "gone", "../x": "gone", KEYS[0]: "gone"})
    found = verify_cache(root)
    entry = Cache.open(root).manifest.failures
    assert [(fault.file, fault.what) for fault in found.faults] == [
        (entry.file, "failures names '../x', which is no image's key"),
    ]
    assert found.notes == (f"{entry.file}: names {KEYS[0]}, which has a vector by now",)
    content = b'["x.jpg"]'
    list_anew(root, failures=None)
    named = write_named(root, "failures", ".json", content)
    write_manifest(root, replace(Cache.open(root).manifest, failures=named))
    (fault,) = verify_cache(root).faults
    assert (fault.file, fault.what) == (named.file, "must map keys to reasons")


def test_failures_of_version_1_are_checked(root):
    to_version_1(root)
    failures = {"x.jpg": "gone", "../x": "gone", KEYS[0]: "gone"}
    write_manifest(root, replace(Cache.open(root).manifest, failures_1=failures))
    assert [fault.what for fault in verify_cache(root).faults] == [
        "failures names '../x', which is no image's key",
        f"failures names {KEYS[0]}, which has a vector",
    ]


def test_captions_must_belong_to_the_vocabulary(root):
    cache = Cache.open(root)
    vocabulary = cache.vocabulary()
    other = replace(vocabulary, words=vocabulary.words[:-1]).to_bytes()
    list_anew(root, vocabulary=write_named(root, "vocabulary", ".json", other))
    faults = verify_cache(root).faults
    files = [text_file(root, split).name for split in ("train", "val")]
    assert [fault.file for fault in faults] == [f"captions/{name}" for name in files]
    assert all("encoded with the vocabulary" in fault.what for fault in faults)
    list_anew(root, vocabulary=None)
    assert {fault.what for fault in verify_cache(root).faults} == {"its vocabulary is not listed"}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda held: {"tokens": held.tokens + 90}, "is outside the vocabulary"),
        (lambda held: {"split": "test"}, "holds split 'test', not 'val'"),
    ],
)
def test_captions_that_contradict_themselves_are_found(root, change, what):
    cache = Cache.open(root)
    held = cache.captions("val")
    text_file(root, "val").unlink()
    entry = write_named(root, "captions/val", ".h5", captions_bytes(replace(held, **change(held))))
    write_manifest(root, cache.manifest.with_captions("val", entry))
    (fault,) = verify_cache(root).faults
    assert fault.file == entry.file
    assert what in fault.what


def test_captions_may_come_first(tmp_path):
    with write_cache(tmp_path) as writer:
        put_text(writer)
    found = verify_cache(tmp_path)
    assert found.faults == ()
    train, val = (text_file(tmp_path, split).name for split in ("train", "val"))
    assert [note.split(";")[0] for note in found.notes] == [
        f"captions/{train}: 3 images have neither a readable vector nor a recorded failure, "
        "the first is a.jpg",
        f"captions/{val}: 2 images have neither a readable vector nor a recorded failure, "
        "the first is d.jpg",
    ]
    with write_cache(tmp_path) as writer:
        append(writer, KEYS[:-1], {KEYS[-1]: "empty file"})
    assert verify_cache(tmp_path).notes == ()


def test_files_that_are_not_listed_are_reported(root):
    whole = write_shard(root / "features", 7, SPEC, ["x"], digests(["x"]), vectors(["x"]))
    (root / "features" / "notes.txt").write_text("mine")
    (root / "captions" / "test.h5").write_text("mine")
    found = verify_cache(root)
    assert found.faults == ()
    assert sorted(note.split(":")[0] for note in found.notes) == [
        "captions/test.h5", "features/00007-" + whole.sha256[:8] + ".h5", "features/notes.txt",
    ]  # fmt: skip
    flip(root / whole.file, 999)
    (fault,) = verify_cache(root).faults
    assert fault == Fault(
        whole.file,
        "not listed, and its bytes do not match its name",
        f"`multispace cache repair {root}`",
    )


@pytest.mark.parametrize("text", [f"{KEYS[1]}\n{KEYS[0]}\n", f"{KEYS[0]}\n{KEYS[1]}", "x\n"])
def test_a_key_list_is_checked(root, text):
    assert verify_cache(root).faults == ()
    first, *rest = Cache.open(root).manifest.shards
    (root / first.keys.file).unlink()
    content = text.encode()
    entry = write_named(root, "features/00000", ".txt", content)
    list_anew(root, shards=(replace(first, keys=entry), *rest))
    (fault,) = verify_cache(root).faults
    assert (fault.file, fault.what) == (entry.file, "not the keys of its shard")
    with pytest.raises(ShardError, match="key list|the shard has 2 rows"):
        Cache.open(root).features(KEYS[:1])
    (root / entry.file).write_bytes(content + b"a.jpg\n")
    (fault,) = verify_cache(root).faults
    assert fault.what.endswith(f"bytes, the manifest says {len(content)}")


@pytest.mark.parametrize("text", ["".join(f"{key}\n" for key in reversed(KEYS)), "\n".join(KEYS)])
def test_the_key_list_of_version_1_is_checked(root, text):
    to_version_1(root)
    assert verify_cache(root).faults == ()
    content = text.encode()
    digest = hashlib.sha256(content).hexdigest()
    path = root / f"keys-{digest[:8]}.txt"
    path.write_bytes(content)
    write_manifest(root, replace(Cache.open(root).manifest, key_list_1=describe(root, path)))
    (fault,) = verify_cache(root).faults
    assert (fault.file, fault.what) == (path.name, "not the keys of the shards in their order")


def test_every_flipped_bit_of_version_1_is_found(root):
    to_version_1(root)
    generator = random.Random(6)
    for path in [p for p in root.rglob("*") if p.is_file() and p.name != ".lock"]:
        whole = path.read_bytes()
        for _ in range(10):
            flip(path, generator.randrange(8 * len(whole)))
            faults = verify_cache(root).faults
            path.write_bytes(whole)
            assert [fault.file for fault in faults] == [path.relative_to(root).as_posix()]


def test_a_fault_is_one_line():
    assert str(Fault("a", "gone", "`mend`")) == "a: gone; `mend`"
