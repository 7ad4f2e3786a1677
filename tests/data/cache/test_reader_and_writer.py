import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from filelock import FileLock
from support.rows import (
    CAPTIONS,
    KEYS,
    SPEC,
    append,
    assert_whole,
    digests,
    make_cache,
    put_text,
    shard_files,
    text_file,
    vectors,
)
from support.version_1 import to_version_1

from multispace.data.cache import writer as writer_module
from multispace.data.cache.conversion import with_keys
from multispace.data.cache.format.listed_file import write_named
from multispace.data.cache.format.manifest import write_manifest
from multispace.data.cache.format.shard import write_shard
from multispace.data.cache.reader import Cache
from multispace.data.cache.shard_index import find_keys
from multispace.data.cache.writer import check_split_name, write_cache
from multispace.data.maintenance.differences import compare_caches
from multispace.data.maintenance.verify import verify_cache
from multispace.errors import (
    CacheError,
    CaptionsError,
    DamagedFileError,
    MissingFeatureError,
    ShardError,
    VocabularyError,
)
from multispace.pipeline.repair import repair


@pytest.fixture
def root(tmp_path):
    return tmp_path / "cache"


def settle(root):
    """Open the cache for writing, and write nothing."""
    with write_cache(root):
        pass


def test_features_come_in_the_asked_order(root):
    cache = make_cache(root)
    assert [s.rows for s in cache.manifest.shards] == [2, 2, 1]
    assert_whole(root)
    for order in itertools.permutations(KEYS, 3):
        np.testing.assert_array_equal(cache.features(order), vectors(order))
    np.testing.assert_array_equal(cache.features(KEYS[:1] * 3), vectors(KEYS[:1] * 3))
    assert cache.features(KEYS).dtype == np.float16
    assert cache.features([]).shape == (0, SPEC.dimension)
    assert cache.spec == SPEC


def test_features_come_in_the_widest_type(root):
    wide = replace(SPEC, dtype="float32", precision="bfloat16", weights="elsewhere")
    values = vectors(KEYS).astype(np.float32) + np.float32(1e-5)
    with write_cache(root) as writer:
        append(writer, KEYS[:2])
        writer.append(wide, KEYS[2:], digests(KEYS[2:]), values[2:], {})
    cache = Cache.open(root)
    gathered = cache.features(KEYS)
    assert gathered.dtype == np.float32
    np.testing.assert_array_equal(gathered[:2], vectors(KEYS[:2]))
    np.testing.assert_array_equal(gathered[2:], values[2:])
    assert cache.spec == SPEC


def test_a_missing_key_is_named_with_reason_and_hint(root):
    with write_cache(root) as writer:
        append(writer, KEYS[:2], {"x.jpg": "empty file"})
    cache = Cache.open(root)
    with pytest.raises(
        MissingFeatureError,
        match=f"^{root}: 2 images have no vector, the first is x.jpg .empty file.; run `multisp",
    ):
        cache.features([KEYS[0], "x.jpg", "y.jpg"])
    with pytest.raises(MissingFeatureError, match=r"first is y.jpg; run `multispace preprocess`"):
        cache.features(["y.jpg"])


def test_a_cache_of_captions_alone_says_so(root):
    make_cache(root, keys=[])
    cache = Cache.open(root)
    for asked in ([], KEYS):
        with pytest.raises(CacheError, match=f"{root}: holds no features; run `multispace prep"):
            cache.features(asked)
    assert cache.shards == ()
    assert cache.captions("val").keys == tuple(CAPTIONS["val"])


def test_a_cache_where_all_failed_has_no_rows(root):
    with write_cache(root) as writer:
        append(writer, [], {"x.jpg": "empty file"})
    cache = Cache.open(root)
    assert cache.features([]).shape == (0, SPEC.dimension)
    with pytest.raises(MissingFeatureError, match="empty file"):
        cache.features(["x.jpg"])


def test_vocabulary_and_captions_are_checked(root):
    with write_cache(root) as writer:
        append(writer, KEYS)
    cache = Cache.open(root)
    with pytest.raises(VocabularyError, match="no vocabulary; run .* on a training split"):
        cache.vocabulary()
    with pytest.raises(CaptionsError, match="no captions of split 'val'; there are: none"):
        cache.captions("val")
    cache = make_cache(root, keys=[])
    assert "bus" in cache.vocabulary().words
    assert cache.captions("train").keys == tuple(CAPTIONS["train"])
    with pytest.raises(CaptionsError, match="no captions of split 'test'; there are: train, val"):
        cache.captions("test")
    for what, read in (("val", lambda: cache.captions("val")), ("vocabulary", cache.vocabulary)):
        file = text_file(root, what)
        flip(file)
        with pytest.raises(DamagedFileError, match=f"{file}: digest"):
            read()


def test_another_vocabulary_takes_the_captions_off_the_list(root):
    make_cache(root)
    with write_cache(root) as writer:
        vocabulary = Cache.open(root).vocabulary()
        writer.put_vocabulary(replace(vocabulary, words=vocabulary.words[:-1]))
    assert Cache.open(root).manifest.captions == {}
    assert_whole(root)


def test_a_later_run_appends(root):
    make_cache(root, KEYS[:2])
    first = shard_files(root)
    with write_cache(root) as writer:
        assert writer.digests == {
            k: d.tobytes() for k, d in zip(KEYS[:2], digests(KEYS), strict=False)
        }
        append(writer, KEYS[2:])
        assert set(writer.digests) == set(KEYS)
    assert_whole(root)
    assert [name[:6] for name in shard_files(root)] == ["00000-", "00001-"]
    assert first[0] in shard_files(root)


def test_a_key_has_one_vector(root):
    make_cache(root, KEYS[:2])
    before = (root / "cache.json").read_bytes()
    with write_cache(root) as writer:
        with pytest.raises(CacheError, match=f"{root}: {KEYS[1]} has a vector already"):
            append(writer, KEYS[1:])
        with pytest.raises(ShardError, match=f"{KEYS[2]} occurs twice"):
            append(writer, [KEYS[2], KEYS[2]])
    assert (root / "cache.json").read_bytes() == before
    assert_whole(root, KEYS[:2])


def test_a_failure_is_forgotten_when_the_image_succeeds(root):
    with write_cache(root) as writer:
        append(writer, KEYS[:1], {KEYS[1]: "empty file", "x.jpg": "no such file"})
    with write_cache(root) as writer:
        append(writer, KEYS[1:], {"x.jpg": "empty file"})
    assert Cache.open(root).failures == {"x.jpg": "empty file"}


def test_a_row_that_cannot_be_stored_leaves_the_cache_as_it_was(root):
    make_cache(root, KEYS[:2])
    before = (root / "cache.json").read_bytes()
    values = vectors(KEYS[2:]).astype(np.float32)
    values[1] = np.inf
    with write_cache(root) as writer:
        with pytest.raises(ShardError, match=f"^{KEYS[3]}: its vector is not finite"):
            writer.append(SPEC, KEYS[2:], digests(KEYS[2:]), values, {})
        assert (root / "cache.json").read_bytes() == before
        append(writer, KEYS[2:])
    assert_whole(root)


OTHER = replace(SPEC, pooling="maximum")


def test_another_meaning_is_refused_by_the_field_that_differs(root):
    make_cache(root, KEYS[:2])
    message = (f"{root}: its vectors were made differently: pooling: 'global average' and "
               "'maximum' (cache and command); use another --cache")  # fmt: skip
    with write_cache(root) as writer:
        with pytest.raises(CacheError) as caught:
            writer.begin(OTHER)
        assert str(caught.value) == message
        with pytest.raises(CacheError) as caught:
            append(writer, KEYS[2:], spec=OTHER)
        assert str(caught.value) == message
    assert_whole(root, KEYS[:2])


def test_a_shard_of_another_meaning_is_refused(root, tmp_path):
    make_cache(root, KEYS[:2])
    write_shard(root / "features", 7, OTHER, KEYS[2:], digests(KEYS[2:]), vectors(KEYS[2:]))
    with pytest.raises(ShardError, match=r"00007-.*: pooling: .*\(cache and shard\); run `multisp"):
        settle(root)
    # The same, and listed.
    entry = write_shard(tmp_path / "features", 0, OTHER, KEYS, digests(KEYS), vectors(KEYS))
    (root / entry.file).write_bytes((tmp_path / entry.file).read_bytes())
    manifest = replace(Cache.open(root).manifest, shards=(entry,))
    with pytest.raises(ShardError, match="pooling: 'global average' and 'maximum'"):
        Cache(root, manifest).features(KEYS)


def test_a_key_in_two_shards_is_refused(root):
    make_cache(root, KEYS[:2])
    write_shard(root / "features", 7, SPEC, KEYS[1:], digests(KEYS[1:]), vectors(KEYS[1:]))
    with pytest.raises(
        ShardError,
        match=f"00007-.*: {KEYS[1]} is in another shard too; run `mult",
    ):
        settle(root)


def test_there_is_one_writer(root):
    with write_cache(root) as writer:
        append(writer, KEYS[:2])
        with pytest.raises(CacheError, match=f"{root}: another process is writing to this cache"):
            settle(root)
        (root / "features" / ".partial-x").write_bytes(b"not the other's to remove")
        with pytest.raises(CacheError, match="another process"):
            settle(root)
        assert (root / "features" / ".partial-x").exists()
        Cache.open(root).features(KEYS[:2])  # reading needs no lock
    settle(root)


def test_the_lock_goes_with_its_process(root):
    code = "import sys, pathlib, support.locks; support.locks.hold(pathlib.Path(sys.argv[1]))"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(root)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(CacheError, match="another process is writing"):
            settle(root)
        other.kill()
        other.wait()
    make_cache(root)
    assert_whole(root)


def test_a_lock_file_left_behind_does_not_block(root):
    root.mkdir()
    (root / ".lock").write_text("12345")
    make_cache(root)
    assert_whole(root)
    with FileLock(root / ".lock", timeout=0), pytest.raises(CacheError, match="another process"):
        make_cache(root, [])


def test_a_shard_that_is_not_listed_yet_is_taken_in(root):
    with write_cache(root) as writer:
        append(writer, KEYS[:2], {KEYS[2]: "empty file", "x.jpg": "empty file"})
    write_shard(root / "features", 1, SPEC, KEYS[2:], digests(KEYS[2:]), vectors(KEYS[2:]))
    with write_cache(root) as writer:
        assert set(writer.digests) == set(KEYS)
    assert_whole(root)
    assert Cache.open(root).failures == {"x.jpg": "empty file"}


def test_the_list_is_made_again_from_the_shards(root):
    listed = make_cache(root).manifest
    (root / "cache.json").unlink()
    settle(root)
    assert_whole(root)
    again = Cache.open(root).manifest
    assert (again.spec, again.shards) == (listed.spec, listed.shards)


def test_nothing_is_written_where_nothing_is_to_be_done(root):
    make_cache(root)
    before = (root / "cache.json").stat()
    settle(root)
    assert (root / "cache.json").stat().st_mtime_ns == before.st_mtime_ns
    assert (root / "cache.json").stat().st_ino == before.st_ino


@pytest.mark.parametrize("fault", ["bytes", "link"])
def test_a_file_that_is_no_unlisted_shard_is_refused(root, tmp_path, fault):
    make_cache(root, KEYS[:2])
    entry = write_shard(tmp_path / "features", 1, SPEC, ["x"], digests(["x"]), vectors(["x"]))
    path = root / entry.file
    if fault == "link":
        path.symlink_to(tmp_path / entry.file)
    else:
        path.write_bytes((tmp_path / entry.file).read_bytes()[:-1])
    hint = "replace it by the file" if fault == "link" else "run `multispace cache repair"
    with pytest.raises(ShardError, match=f"{path}: not listed, and .*; {hint}"):
        settle(root)
    path.unlink()
    settle(root)


def test_other_files_are_let_be(root):
    make_cache(root)
    for name in ("notes.h5", "0-x.h5", "00009-.h5", "README"):
        (root / "features" / name).write_bytes(b"mine")
    settle(root)
    cache = Cache.open(root)
    np.testing.assert_array_equal(cache.features(KEYS), vectors(KEYS))
    assert (root / "features" / "0-x.h5").read_bytes() == b"mine"


def test_no_shard_gets_a_number_that_no_reader_takes(root):
    make_cache(root, KEYS[:4])
    manifest = Cache.open(root).manifest
    last = manifest.shards[-1]
    name = f"features/999999999-{last.sha256[:8]}.h5"
    (root / last.file).rename(root / name)
    moved = (*manifest.shards[:-1], replace(last, file=name))
    write_manifest(root, replace(manifest, shards=moved))
    before = (root / "cache.json").read_bytes()
    with (
        write_cache(root) as writer,
        pytest.raises(CacheError, match="follow number 999999999"),
    ):
        append(writer, KEYS[4:])
    assert (root / "cache.json").read_bytes() == before
    assert_whole(root, KEYS[:4])


def test_what_a_killed_writer_left_is_removed(root):
    make_cache(root)
    left = [root / folder / ".partial-abc" for folder in (".", "features", "captions")]
    for path in left:
        path.write_bytes(b"half")
    settle(root)
    assert not any(path.exists() for path in left)
    assert_whole(root)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage", [flip, Path.unlink, lambda path: os.truncate(path, 100)], ids=["bit", "gone", "cut"]
)
def test_opening_names_a_damaged_shard_and_changes_nothing(root, damage):
    cache = make_cache(root)
    bad = root / cache.manifest.shards[1].file
    damage(bad)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    message = f"{bad}: .*; run `multispace cache repair {root}`"
    for act in (
        settle,
        lambda root: Cache.open(root).features(KEYS),
        lambda root: Cache.open(root).shards,
    ):
        with pytest.raises(DamagedFileError, match=message):
            act(root)
    assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_opening_to_write_parses_no_vectors_and_hashes_only_small_caches(root, monkeypatch):
    flip(root / make_cache(root).manifest.shards[1].file)
    with pytest.raises(DamagedFileError):
        settle(root)
    monkeypatch.setattr("multispace.data.cache.unlisted.MAX_HASHED", 1000)
    monkeypatch.setattr(h5py, "File", lambda *_: pytest.fail("opened"))
    with write_cache(root) as writer:
        assert list(writer.digests) == KEYS
        with pytest.raises(CacheError, match=f"{KEYS[1]} has a vector already"):
            append(writer, KEYS[1:2])


def test_only_the_shards_that_are_asked_for_are_read(root):
    cache = make_cache(root)
    for entry in cache.manifest.shards[1:]:
        flip(root / entry.file)
    np.testing.assert_array_equal(Cache.open(root).features(KEYS[:2]), vectors(KEYS[:2]))
    with pytest.raises(DamagedFileError):
        Cache.open(root).features(KEYS[1:3])


def test_few_keys_are_found_without_an_index_and_many_with_one(root, monkeypatch):
    keys = [f"{number}.jpg" for number in range(300)]
    with write_cache(root) as writer:
        for start in range(0, 300, 50):
            append(writer, keys[start : start + 50])
    wanted = [keys[270], keys[3], keys[3], keys[120]]
    cache = Cache.open(root)
    np.testing.assert_array_equal(cache.features(wanted[:2]), vectors(wanted[:2]))
    assert "rows" not in vars(cache)
    for absent in ("x.jpg", "", f"{keys[0]}\n{keys[1]}"):
        with pytest.raises(MissingFeatureError, match="1 images have no vector, the first is"):
            Cache.open(root).features([absent])
    np.testing.assert_array_equal(cache.features(wanted), vectors(wanted))
    assert "rows" in vars(cache)  # asked for the second time
    cache = Cache.open(root)
    np.testing.assert_array_equal(cache.features(wanted), vectors(wanted))
    assert "rows" in vars(cache)


def test_the_manifest_is_not_written_with_each_shard(root, tmp_path, monkeypatch):
    """What is written in all grows as the number of shards; a killed writer's are taken in."""
    written = []
    real = writer_module.write_manifest
    monkeypatch.setattr(
        writer_module,
        "write_manifest",
        lambda root, manifest: written.append(len(manifest.shards)) or real(root, manifest),
    )
    keys = [f"{number}.jpg" for number in range(300)]
    with write_cache(root) as writer:
        for number, key in enumerate(keys):
            append(writer, [key])
            if number == 298:
                shutil.copytree(root, tmp_path / "killed")
    assert written[:16] == list(range(1, 17))
    assert sum(written) < 20 * len(keys)
    assert_whole(root, keys)
    assert len(Cache.open(tmp_path / "killed").manifest.shards) < 298
    with write_cache(tmp_path / "killed") as writer:
        assert list(writer.digests) == keys[:299]
        append(writer, keys[299:])
    assert_whole(tmp_path / "killed", keys)
    assert verify_cache(tmp_path / "killed").faults == ()


def test_a_shard_of_other_keys_than_its_list_is_refused(root):
    cache = make_cache(root)
    first, *rest = cache.manifest.shards
    (root / first.keys.file).unlink()
    entry = write_named(root, "features/00000", ".txt", f"{KEYS[1]}\n{KEYS[0]}\n".encode())
    write_manifest(root, replace(cache.manifest, shards=(replace(first, keys=entry), *rest)))
    for act in (lambda cache: cache.features(KEYS[:1]), lambda cache: cache.shards):
        with pytest.raises(ShardError, match=f"{first.file}: its keys are not those of its key l"):
            act(Cache.open(root))
    repair(root)
    assert_whole(root)


def test_a_key_in_two_key_lists_is_refused(root):
    cache = make_cache(root)
    entry = write_shard(
        root / "features", 7, SPEC, KEYS[1:2], digests(KEYS[1:2]), vectors(KEYS[1:2])
    )
    shards = (*cache.manifest.shards, with_keys(root, entry))
    write_manifest(root, replace(cache.manifest, shards=shards))
    acts = [
        settle,
        lambda root: Cache.open(root).features(KEYS),
        lambda root: find_keys(root, Cache.open(root).manifest.shards, KEYS[:2]),
    ]
    for act in acts:
        with pytest.raises(ShardError, match=f"{KEYS[1]} is in another shard too"):
            act(root)


def test_many_failures_are_not_written_with_each_shard(root, monkeypatch):
    written = []
    real = writer_module.write_failures
    monkeypatch.setattr(
        writer_module,
        "write_failures",
        lambda root, held: written.append(len(held)) or real(root, held),
    )
    count = 200
    with write_cache(root) as writer:
        for number in range(count):
            append(writer, [f"{number}.jpg"], {f"bad {number}.jpg": "empty file"})
    assert sum(written) < 6 * count
    failures = {f"bad {number}.jpg": "empty file" for number in range(count)}
    assert Cache.open(root).failures == failures
    written.clear()
    with write_cache(root) as writer:
        assert writer.failures == failures
        for number in range(count):
            append(writer, [f"bad {number}.jpg"])
    assert sum(written) < 6 * count
    assert Cache.open(root).failures == {}
    assert not list(root.glob("failures-*.json"))
    assert verify_cache(root).faults == ()


def test_failures_are_written_when_a_writer_is_interrupted(root):
    with pytest.raises(KeyboardInterrupt), write_cache(root) as writer:  # noqa: PT012
        for number in range(20):
            append(writer, [], {f"bad {number}.jpg": "empty file"})
        raise KeyboardInterrupt
    assert len(Cache.open(root).failures) == 20


def test_what_a_killed_writer_replaced_is_removed_by_the_next(root):
    make_cache(root)
    captions = text_file(root, "val")
    old = captions.read_bytes()
    with write_cache(root) as writer:
        held = Cache.open(root).captions("val")
        writer.put_captions(replace(held, factors=(1, 2)))
    assert not captions.exists()
    captions.write_bytes(old)
    name = text_file(root, "val").name
    others = [f"captions/{name[:-4]}0.h5", "captions/other-01234567.h5", "features/00000-abc.txt",
              "features/00000-01234567.txt", "vocabulary-01234567.json", "vocabulary.json",
              "captions/val.h5", "notes.json", "keys-01234567.txt"]  # fmt: skip
    for other in others:
        (root / other).write_bytes(b"mine")
    settle(root)
    assert not captions.exists()
    for other in others:
        assert (root / other).read_bytes() == b"mine"
    (root / "cache.json").unlink()  # then nothing is known to be replaced
    captions.write_bytes(old)
    settle(root)
    assert captions.read_bytes() == old


@pytest.mark.parametrize("key_list", [True, False])
def test_version_1_is_read_and_converted_by_the_first_write(root, key_list):
    with write_cache(root) as writer:
        put_text(writer)
        append(writer, KEYS[:2], {"x.jpg": "empty file"})
        append(writer, KEYS[2:])
    to_version_1(root, key_list)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert_whole(root)
    settle(root)
    cache = Cache.open(root)
    assert (cache.manifest.version, cache.failures) == (1, {"x.jpg": "empty file"})
    texts, vocabulary = cache.captions("val").texts, cache.vocabulary()
    assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with write_cache(root) as writer:
        assert writer.digests == dict(zip(KEYS, map(bytes, digests(KEYS)), strict=True))
        append(writer, ["new.jpg"])
    converted = Cache.open(root)
    assert converted.manifest.version == 2
    assert_whole(root, [*KEYS, "new.jpg"])
    assert [shard.file for shard in converted.manifest.shards[:2]] == [
        shard.file for shard in cache.manifest.shards
    ]
    assert (converted.captions("val").texts, converted.vocabulary()) == (texts, vocabulary)
    assert converted.failures == cache.failures
    assert verify_cache(root).faults == ()
    assert verify_cache(root).notes == ()


def test_a_spec_that_is_spelled_in_two_ways_has_one_meaning(root, tmp_path):
    """Version 1 spelled some numbers and texts otherwise, and so has other fingerprints."""
    transform = replace(SPEC.transform, mean=(0.0, 1.0, 1e-7))
    spec = replace(SPEC, decode="pillow, gedreht für EXIF", transform=transform)
    for folder in (root, tmp_path / "new"):
        with write_cache(folder) as writer:
            append(writer, KEYS[:3], spec=spec)
    to_version_1(root)
    old, new = Cache.open(root), Cache.open(tmp_path / "new")
    listed = [json.loads((c.root / "cache.json").read_bytes())["fingerprint"] for c in (old, new)]
    assert listed == [spec.fingerprint_1, spec.fingerprint]
    assert listed[0] != listed[1]
    assert old.spec.fingerprint == new.spec.fingerprint == spec.fingerprint
    for cache in (old, new):
        assert all(map(cache.spec.has_fingerprint, listed))
    assert not spec.has_fingerprint(SPEC.fingerprint)
    with write_cache(root) as writer:
        append(writer, KEYS[3:], spec=spec)
    assert_whole(root)
    assert all(map(Cache.open(root).spec.has_fingerprint, listed))
    assert compare_caches(root, tmp_path / "new").both == 3


@pytest.mark.parametrize("name", ["features", "captions"])
def test_the_files_of_another_cache_are_not_reached_through_a_link(root, tmp_path, name):
    theirs = make_cache(tmp_path / "theirs").root
    make_cache(root)
    moved = root / name
    shutil.rmtree(moved)
    moved.symlink_to(theirs / name)
    # The same names with wrong digests, which a stranger's manifest may list.
    manifest = Cache.open(root).manifest
    wrong = tuple(replace(e, sha256=e.sha256[:8] + "0" * 56) for e in manifest.shards)
    write_manifest(root, replace(manifest, shards=wrong))
    (theirs / name / ".partial-x").write_bytes(b"theirs")
    before = {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()}
    message = f"{moved}: is a symbolic link"
    for act in (settle, repair, lambda root: make_cache(root, [])):
        with pytest.raises(CacheError, match=message):
            act(root)
    with pytest.raises(DamagedFileError, match=message if name == "features" else "digest"):
        Cache.open(root).features(KEYS)
    with pytest.raises(DamagedFileError, match=message):
        Cache.open(root).captions("val") if name == "captions" else Cache.open(root).shards
    assert before == {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()}
    assert verify_cache(root).faults


def test_shards_that_are_links_stay(root, tmp_path):
    """git-annex keeps files as links into its store."""
    cache = make_cache(root)
    for entry in cache.manifest.shards:
        (root / entry.file).rename(tmp_path / Path(entry.file).name)
        (root / entry.file).symlink_to(tmp_path / Path(entry.file).name)
    before = sorted(root.rglob("*"))
    for act in (settle, repair, lambda root: Cache.open(root).features(KEYS)):
        with pytest.raises(CacheError, match="is a symbolic link; .*git annex unlock"):
            act(root)
    assert sorted(root.rglob("*")) == before
    assert all("git annex unlock" in fault.hint for fault in verify_cache(root).faults)


def test_a_lock_that_is_a_link_is_refused(root, tmp_path):
    make_cache(root)
    (tmp_path / "mine").write_text("precious")
    (root / ".lock").unlink()
    (root / ".lock").symlink_to(tmp_path / "mine")
    with pytest.raises(CacheError, match=f"{root / '.lock'}: is a symbolic link"):
        settle(root)
    assert (tmp_path / "mine").read_text() == "precious"


def test_more_shards_than_descriptors(root, tmp_path):
    make_cache(root)
    code = f"""
import resource
from pathlib import Path
from support.rows import append, assert_whole, make_cache
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.data.maintenance.differences import compare_caches
from multispace.data.maintenance.merge import merge_caches
from multispace.data.external_vectors.vector_export import export_features
from multispace.data.maintenance.verify import verify_cache
from multispace.pipeline.repair import repair

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
folder = Path({str(tmp_path)!r})
keys = [f"{{n}}.jpg" for n in range(100)]
make_cache(folder / "many", keys, shard_size=1)
with write_cache(folder / "many") as writer:
    append(writer, ["more.jpg"])
assert_whole(folder / "many", [*keys, "more.jpg"])
assert merge_caches([folder / "many", folder / "cache"], folder / "merged").rows == 106
assert export_features(folder / "many", folder / "out.npy", folder / "out.txt").rows == 101
assert verify_cache(folder / "many").faults == ()
assert repair(folder / "many").done == ()
assert compare_caches(folder / "many", folder / "merged").both == 101
"""
    subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        timeout=300,
    )


def test_a_users_own_file_of_keys_stays(root):
    make_cache(root, KEYS[:2])
    for name in ("keys-wanted.txt", "keys-00000000.txt"):
        (root / name).write_text("a.jpg")
    make_cache(root, KEYS[2:])
    for name in ("keys-wanted.txt", "keys-00000000.txt"):
        assert (root / name).read_text() == "a.jpg"
    assert_whole(root)


def test_whoever_may_write_to_the_folder_may_extend_the_cache(root):
    root.mkdir()
    root.chmod(0o777)
    previous = os.umask(0o022)
    try:
        make_cache(root)
    finally:
        os.umask(previous)
    assert (root / ".lock").stat().st_mode & 0o777 == 0o666
    for name in ("features", "captions"):
        assert (root / name).stat().st_mode & 0o777 == 0o777


def test_a_swapped_shard_is_not_read(root):
    cache = make_cache(root)
    assert len(cache.shards) == 3
    first, second = (root / entry.file for entry in cache.manifest.shards[:2])
    content = second.read_bytes()
    second.unlink()
    second.write_bytes(first.read_bytes())
    with pytest.raises(DamagedFileError, match=f"{second}: .*the manifest says"):
        cache.features(KEYS)
    second.write_bytes(content)
    np.testing.assert_array_equal(cache.features(KEYS), vectors(KEYS))


def test_a_damaged_manifest_stops_the_writer_and_keeps_the_shards(root):
    make_cache(root)
    flip(root / "cache.json")
    before = shard_files(root)
    with pytest.raises(CacheError, match="run `multispace cache repair"):
        settle(root)
    assert shard_files(root) == before
    (root / "cache.json").unlink()
    settle(root)
    assert_whole(root)


def test_a_cache_may_be_moved(root, tmp_path):
    make_cache(root)
    root.rename(tmp_path / "moved")
    assert_whole(tmp_path / "moved")


@pytest.mark.parametrize("name", ["train", "val2014", "a.b-c_d", "x" * 64])
def test_names_for_splits(name):
    assert check_split_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\n", "é", "-a", "x" * 65])
def test_names_that_will_not_do_for_splits(name):
    with pytest.raises(CacheError, match="use letters, digits"):
        check_split_name(name)


def extend(root):
    """Add what is missing, in shards of two."""
    with write_cache(root) as writer:
        missing = [key for key in KEYS if key not in writer.digests]
        for start in range(0, len(missing), 2):
            append(writer, missing[start : start + 2])


@pytest.mark.parametrize(
    ("call", "count"), [*(("fsync", n) for n in range(8)), *(("replace", n) for n in range(4))]
)
def test_a_full_disk_costs_the_shard_in_hand_at_most(root, monkeypatch, call, count):
    # Two shards: each file is synced, renamed and its folder synced, the manifest after it.
    make_cache(root, KEYS[:2])
    real = getattr(os, call)
    calls = itertools.count()

    def full(*arguments):
        if next(calls) >= count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    before = (root / "cache.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space left"):
            extend(root)
    assert not list(root.rglob(".partial-*"))
    cache = Cache.open(root)
    written = KEYS[: 2 * len(cache.manifest.shards)]
    np.testing.assert_array_equal(cache.features(written), vectors(written))
    if count == 0:
        assert (root / "cache.json").read_bytes() == before
        assert len(shard_files(root)) == 1
    extend(root)
    assert_whole(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_may_not_be_written_can_be_read(root):
    make_cache(root)
    for folder in (root / "features", root / "captions", root):
        folder.chmod(0o500)
    assert_whole(root)
    with pytest.raises(PermissionError), write_cache(root) as writer:
        append(writer, ["x.jpg"])
    for folder in (root, root / "features", root / "captions"):
        folder.chmod(0o700)
