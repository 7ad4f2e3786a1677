import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.faults import plain_shard
from support.killer import Killer
from support.rows import CAPTIONS, KEYS, SPEC, append, assert_whole, digests, put_text, vectors
from support.rows import make_cache as make_whole_cache
from support.watching import Watcher

import multispace.data.cache.reader
from multispace.data.cache.format.manifest import Manifest, write_manifest
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.data.maintenance.merge import ConflictError, merge_caches
from multispace.errors import CacheError, DamagedFileError

WIDE = replace(SPEC, dtype="float32", precision="bfloat16")


def make(root, *shards, failures=None, spec=SPEC, change=None):
    """Make a cache of shards of keys; ``change`` maps a key to what its vector is multiplied by."""
    with write_cache(root) as writer:
        for keys in shards:
            values = vectors(keys).astype(np.float64)
            for key, factor in (change or {}).items():
                if key in keys:
                    values[keys.index(key)] *= factor
            writer.append(spec, keys, digests(keys), values, {})
        append(writer, [], failures, spec)
    return root


def other_images(root, keys):
    """Make a cache where the images of ``keys`` had other bytes."""
    with write_cache(root) as writer:
        writer.append(SPEC, keys, digests(keys) ^ 1, vectors(keys), {})
    return root


@pytest.fixture
def abc(tmp_path):
    return tmp_path / "a", tmp_path / "b", tmp_path / "c"


def test_vectors_that_are_not_finite_are_not_taken(abc):
    a, _, c = abc
    features = vectors(KEYS)
    features[2, 1] = np.nan
    entry = plain_shard(a, 0, KEYS, features)
    write_manifest(a, Manifest(SPEC, (entry,)))
    with pytest.raises(CacheError, match=f"{a / entry.file}: the vector of {KEYS[2]} is not fin"):
        merge_caches([a], c)
    assert not list((c / "features").iterdir())


def test_vectors_are_counted_when_compared_and_when_written(abc):
    a, b, c = abc
    make(a, KEYS[:2], KEYS[2:4])
    make(b, KEYS[3:])
    watch = Watcher()
    merge_caches([a, b], c, watch=watch)
    assert sum(watch.counted) == watch.total == 2 * (4 + 2)
    again = Watcher()
    merge_caches([a, b], c, watch=again)
    assert sum(again.counted) == again.total == 2 * (5 + 4 + 2)


def test_shards_of_new_rows_are_linked(abc):
    a, b, c = abc
    make(a, KEYS[:2], KEYS[2:3])
    make(b, KEYS[3:])
    done = merge_caches([a, b], c)
    assert_whole(c)
    assert (done.rows, done.added, done.linked, done.copied, done.rewritten) == (5, 5, 3, 0, 0)
    assert (done.identical, done.rounded, done.settled) == (0, 0, ())
    held = {p.stat().st_ino: p.name for root in (a, b) for p in (root / "features").glob("*.h5")}
    names = {path.stat().st_ino: path.name for path in (c / "features").glob("*.h5")}
    assert held.keys() == names.keys()
    assert sorted(name[:6] for name in names.values()) == ["00000-", "00001-", "00002-"]
    assert all(held[inode][5:] == names[inode][5:] for inode in held)  # the digest's part
    assert [e.sha256 for e in Cache.open(c).manifest.shards] == [
        e.sha256 for root in (a, b) for e in Cache.open(root).manifest.shards
    ]
    json.dumps(done.to_json())


def test_the_sources_may_go(abc):
    a, b, c = abc
    make(a, KEYS[:2])
    make(b, KEYS[2:])
    merge_caches([a, b], c)
    shutil.rmtree(a)
    shutil.rmtree(b)
    assert_whole(c)


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM])
def test_where_links_are_not_possible_shards_are_copied(abc, monkeypatch, number):
    def refuse(source, path):
        raise OSError(number, os.strerror(number))

    a, b, c = abc
    make(a, KEYS[:2])
    make(b, KEYS[2:])
    monkeypatch.setattr(os, "link", refuse)
    done = merge_caches([a, b], c)
    assert (done.linked, done.copied) == (0, 2)
    assert_whole(c)
    entries = [Cache.open(root).manifest.shards[0] for root in (a, b)]
    for entry, held in zip(entries, Cache.open(c).manifest.shards, strict=True):
        assert (c / held.file).read_bytes() == ((a if entry is entries[0] else b) / entry.file
                                                ).read_bytes()  # fmt: skip
        assert (c / held.file).stat().st_nlink == 1


def test_other_faults_of_a_link_are_not_hidden(abc, monkeypatch):
    def full(source, path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    a, _, c = abc
    make(a, KEYS)
    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space left"):
        merge_caches([a], c)


def test_identical_rows_are_there_once(abc):
    a, b, c = abc
    make(a, KEYS[:3])
    make(b, KEYS[1:4], KEYS[4:])
    done = merge_caches([a, b], c)
    assert_whole(c)
    assert (done.identical, done.linked, done.rewritten, done.added) == (2, 2, 1, 5)
    shards = Cache.open(c).shards
    assert [shard.keys for shard in shards] == [tuple(KEYS[:3]), (KEYS[3],), (KEYS[4],)]
    again = merge_caches([a, b], c)
    assert (again.added, again.identical, again.linked, again.rewritten) == (0, 7, 0, 0)
    assert_whole(c)


def test_a_cache_is_extended_in_place(abc):
    a, b, _ = abc
    make(a, KEYS[:3])
    make(b, KEYS[1:])
    first = Cache.open(a).manifest.shards[0]
    done = merge_caches([b, a], a)  # itself among the sources changes nothing
    assert (done.added, done.identical) == (2, 2)
    assert Cache.open(a).manifest.shards[0] == first
    assert_whole(a)


def test_rows_that_differ_by_rounding_are_one(abc):
    a, b, c = abc
    make(a, KEYS)
    make(b, KEYS, spec=WIDE, change=dict.fromkeys(KEYS, 1.001))
    done = merge_caches([a, b], c)
    assert (done.rounded, done.identical, done.linked) == (len(KEYS), 0, 1)
    assert_whole(c)  # the first one's
    other = merge_caches([b, a], c.with_name("d"))
    assert other.rounded == len(KEYS)
    assert Cache.open(c.with_name("d")).features(KEYS).dtype == np.float32


def test_the_cosine_that_parts_rounding_from_another_vector(abc):
    near, far = 0.0141, 0.0142  # as tangents of an angle: cosines 0.999901 and 0.999899
    one = np.array([[1.0, 0, 0, 0, 0, 0]])
    across = np.array([[0.0, 1, 0, 0, 0, 0]])
    for root, share in zip(abc, (0, near, far), strict=True):
        with write_cache(root) as writer:
            writer.append(WIDE, ["x"], digests(["x"]), one + share * across, {})
    a, b, c = abc
    assert merge_caches([a, b], a.with_name("near")).rounded == 1
    with pytest.raises(ConflictError, match=r"x \(.*another vector of the same image"):
        merge_caches([a, c], a.with_name("far"))


def test_a_scaled_vector_is_another_one(abc):
    a, b, c = abc
    make(a, KEYS)
    make(b, KEYS, change={KEYS[2]: 2})
    with pytest.raises(ConflictError, match=f"1 images have different vectors: {KEYS[2]} "):
        merge_caches([a, b], c)


def test_conflicts_are_all_listed_and_nothing_is_written(abc):
    a, b, c = abc
    make(a, KEYS)
    other_images(b, KEYS)
    with pytest.raises(ConflictError) as caught:
        merge_caches([a, b], c)
    assert str(caught.value) == (
        f"{c}: 5 images have different vectors: "
        + "; ".join(f"{key} ({a} and {b}: another image)" for key in KEYS[:3])
        + "; and 2 more; name the cache that wins with --prefer; "
        "vectors that are in --into already always win"
    )
    assert [conflict.key for conflict in caught.value.conflicts] == KEYS
    assert [entry["key"] for entry in caught.value.to_json()["conflicts"]] == KEYS
    assert not (c / "cache.json").exists()
    assert not list(c.rglob("*.h5"))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_preferred_cache_wins(abc, order):
    a, b, c = abc
    make(a, KEYS[:3])
    other_images(b, KEYS[2:])
    done = merge_caches([abc[n] for n in order], c, prefer=a)
    assert [conflict.key for conflict in done.settled] == [KEYS[2]]
    assert done.rows == len(KEYS)
    rows = {k: d.tobytes() for s in Cache.open(c).shards
            for k, d in zip(s.keys, s.image_sha256, strict=True)}  # fmt: skip
    expected = np.concatenate([digests(KEYS[:3]), digests(KEYS[3:]) ^ 1])
    assert rows == {key: digest.tobytes() for key, digest in zip(KEYS, expected, strict=True)}
    again = merge_caches([abc[n] for n in order], c, prefer=a)  # as after a merge that was killed
    assert (again.added, again.rows) == (0, len(KEYS))


def test_a_conflict_that_does_not_touch_the_preferred_cache_stays(abc):
    a, b, c = abc
    make(a, KEYS[:1])
    make(b, KEYS[1:])
    other_images(c, KEYS[1:2])
    with pytest.raises(ConflictError, match=rf"1 images .*: {KEYS[1]} \({b} and {c}"):
        merge_caches([b, c, a], a.with_name("d"), prefer=a)


def test_rows_are_never_replaced(abc):
    a, b, _ = abc
    make(a, KEYS)
    other_images(b, KEYS[:1])
    before = (b / "cache.json").read_bytes()
    with pytest.raises(ConflictError, match="vectors that are in --into already always win"):
        merge_caches([a], b, prefer=a)
    assert (b / "cache.json").read_bytes() == before
    done = merge_caches([a], b, prefer=b)
    assert (done.added, len(done.settled), done.rewritten) == (4, 1, 1)
    assert Cache.open(b).shards[0].image_sha256[0].tobytes() != digests(KEYS[:1]).tobytes()


def test_a_preferred_cache_that_is_not_there_is_refused(abc):
    a, b, c = abc
    make(a, KEYS)
    with pytest.raises(CacheError, match=f"^--prefer {b}: not one of the caches"):
        merge_caches([a], c, prefer=b)


def test_other_fingerprints_are_refused_by_the_fields_that_differ(abc):
    a, b, c = abc
    make(a, KEYS[:2])
    make(b, KEYS[2:], spec=replace(SPEC, pooling="maximum"))
    message = (
        f"{b}: its vectors were made differently from those of {a}: pooling: 'global average' and "
        "'maximum'; only caches of one fingerprint are merged"
    )
    with pytest.raises(CacheError) as caught:
        merge_caches([a, b], c)
    assert str(caught.value) == message
    assert not c.exists()
    with pytest.raises(CacheError) as caught:
        merge_caches([b], a)
    assert str(caught.value) == message


def test_a_damaged_source_is_refused_before_anything_is_written(abc):
    a, b, c = abc
    make(a, KEYS[:2])
    make(b, KEYS[2:])
    path = b / Cache.open(b).manifest.shards[0].file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=f"{path}: digest"):
        merge_caches([a, b], c)
    assert not list(c.rglob("*.h5"))


def test_failures_are_united(abc):
    a, b, c = abc
    make(a, KEYS[:2], failures={KEYS[2]: "empty file", "x.jpg": "no such file"})
    make(b, KEYS[2:], failures={KEYS[0]: "empty file", "x.jpg": "late", "y.jpg": "late"})
    done = merge_caches([a, b], c)
    assert Cache.open(c).failures == {"x.jpg": "no such file", "y.jpg": "late"}
    assert done.failures == 2


def test_caches_where_all_failed_are_united_too(abc):
    a, b, c = abc
    make(a, failures={"x.jpg": "empty file"})
    make(b, failures={"y.jpg": "empty file"})
    merge_caches([a, b], c)
    assert set(Cache.open(c).failures) == {"x.jpg", "y.jpg"}
    assert Cache.open(c).manifest.spec == SPEC


def text_cache(root, keys, captions):
    make(root, keys)
    with write_cache(root) as writer:
        put_text(writer, captions)
    return root


def test_text_is_taken_from_the_first_cache(abc):
    a, b, c = abc
    make_whole_cache(a)
    text_cache(b, KEYS, {"train": CAPTIONS["train"], "test": {"d.jpg": ("another word",)}})
    done = merge_caches([a, b], c)
    assert done.splits == ("train", "val")
    assert [(entry.cache, entry.split, entry.reason) for entry in done.left_out] == [
        (str(b), split, "encoded with another vocabulary") for split in ("test", "train")
    ]
    merged, first = Cache.open(c), Cache.open(a)
    assert merged.vocabulary() == first.vocabulary()
    for split in ("train", "val"):
        assert merged.captions(split).texts == first.captions(split).texts
    assert merge_caches([a, b], c).left_out == done.left_out


def test_a_split_in_the_words_of_the_first_is_taken_from_another(abc):
    a, b, c = abc
    make_whole_cache(a)
    make_whole_cache(b)
    with write_cache(b) as writer:
        other = Cache.open(b).captions("val")
        writer.put_captions(replace(other, split="test"))
        writer.put_captions(replace(other, texts=("changed", *other.texts[1:])))
    done = merge_caches([a, b], c)
    assert done.splits == ("train", "val", "test")
    assert [(e.split, e.reason) for e in done.left_out] == [
        ("val", "another split of that name comes before it")
    ]
    assert Cache.open(c).captions("val").texts == Cache.open(a).captions("val").texts
    assert Cache.open(c).captions("test").keys == other.keys


def test_the_first_that_has_words_gives_them(abc):
    a, b, c = abc
    make(a, KEYS)
    text_cache(b, [KEYS[0]], CAPTIONS)
    done = merge_caches([a, b], c)
    assert (done.splits, done.left_out) == (("train", "val"), ())
    assert Cache.open(c).captions("train").keys == tuple(CAPTIONS["train"])


def merge_and_kill(folder):
    """Merge in forked processes, in ``folder``/0, 1 ..., until one lives to its end."""
    last = 0
    while True:
        child = os.fork()
        if child == 0:
            killer = Killer(last)
            os.fsync = lambda descriptor: None
            multispace.data.cache.writer.sync_folder = killer.before(
                multispace.data.cache.writer.sync_folder
            )
            for name in ("link", "replace"):
                setattr(os, name, killer.before(getattr(os, name)))
            merge_caches([folder / "a", folder / "b"], folder / str(last))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            print(last)
            return
        if not os.WIFSIGNALED(status):
            raise SystemExit(f"step {last}: status {status}")
        last += 1


def test_a_merge_killed_at_any_step_is_finished_by_the_same_call(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    make_whole_cache(a, KEYS[:3])
    make(b, KEYS[2:4], KEYS[4:], failures={"bad.jpg": "empty file"})
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    count = int(done.stdout)
    ended = (tmp_path / str(count) / "cache.json").read_bytes()
    states = set()
    for last in range(count):
        root = tmp_path / str(last)
        there = len(list((root / "features").glob("*.h5")))
        if (root / "cache.json").exists():  # a reader sees a whole cache
            cache = Cache.open(root)
            for shard in cache.shards:
                np.testing.assert_array_equal(shard.features, vectors(shard.keys))
            states.add((len(cache.shards), there))
        merge_caches([a, b], root)
        assert_whole(root)
        assert (root / "cache.json").read_bytes() == ended
        assert Cache.open(root).captions("train").keys == tuple(CAPTIONS["train"])
        assert Cache.open(root).failures == {"bad.jpg": "empty file"}
    # Among them: a shard that is there and not listed, of those linked and the one rewritten.
    assert {(1, 2), (2, 3), (3, 4)} <= states


if __name__ == "__main__":
    merge_and_kill(Path(sys.argv[1]))
