import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import rfc8785
from filelock import FileLock
from support.faults import flip, list_anew, plain_shard
from support.rows import (
    KEYS,
    SPEC,
    append,
    assert_whole,
    digests,
    make_cache,
    text_file,
    vectors,
)
from support.tiny import SPLITS, make_collection, options
from support.tiny import make_cache as extract_cache
from support.version_1 import to_version_1

import multispace.data.maintenance.damaged_files
from multispace.data.cache.format.listed_file import describe, write_named
from multispace.data.cache.format.manifest import Manifest, write_manifest
from multispace.data.cache.format.shard import ShardEntry, write_shard
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.data.maintenance.damaged_files import LOST, NOT_FINITE
from multispace.data.maintenance.verify import verify_cache
from multispace.errors import CacheError, OptionError, WeightsError
from multispace.pipeline.preprocess import preprocess
from multispace.pipeline.repair import repair


@pytest.fixture
def root(tmp_path):
    make_cache(tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def extracted(tmp_path):
    """A cache that a backbone made, and the collection that it is of."""
    collection = make_collection(tmp_path / "collection")
    for split in ("train", "val"):
        preprocess(options(tmp_path / "extracted", collection, split, shard_size=5))
    return tmp_path / "extracted", collection / "images"


def content(root):
    """Every vector and digest by key."""
    cache = Cache.open(root)
    return {
        key: (shard.features[row].tobytes(), shard.image_sha256[row].tobytes())
        for shard in cache.shards
        for row, key in enumerate(shard.keys)
    }


def assert_sound(root):
    assert verify_cache(root).faults == ()


def test_a_whole_cache_is_left_as_it_is(root):
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in root.rglob("*") if p.is_file()}
    repaired = repair(root)
    assert (repaired.done, repaired.left, repaired.added) == ((), (), 0)
    after = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in root.rglob("*") if p.is_file()}
    assert after == before
    assert json.loads(json.dumps(repaired.to_json()))["done"] == []


@pytest.mark.parametrize("damage", [lambda p: flip(p, 999), Path.unlink], ids=["bit", "gone"])
def test_a_manifest_is_made_again(root, damage):
    before = (root / "cache.json").read_bytes()
    damage(root / "cache.json")
    repaired = repair(root)
    assert repaired.left == ()
    assert repaired.done == (
        "cache.json: written anew from 3 shards with 5 vectors and from the text files that can be "
        "read; recorded failures are lost",
    )
    assert (root / "cache.json").read_bytes() == before
    assert_sound(root)


def test_manifest_and_shard_are_repaired_together(root):
    bad = root / Cache.open(root).manifest.shards[1].file
    flip(root / "cache.json", 10)
    flip(bad, 5000)
    repaired = repair(root)
    assert not bad.exists()
    assert (root / "damaged" / bad.name).exists()
    assert_whole(root, KEYS[:2] + KEYS[4:])
    assert_sound(root)
    assert repaired.left == (
        f"`multispace cache repair {root} --images DIR`: 2 images have no vector, the first is "
        f"{KEYS[2]}",
    )


def test_a_vocabulary_and_captions_that_do_not_belong_together_are_not_listed(root):
    make_cache(root.with_name("other"))
    with write_cache(root.with_name("other")) as writer:
        vocabulary = Cache.open(root).vocabulary()
        writer.put_vocabulary(replace(vocabulary, words=vocabulary.words[:-1]))
    theirs, val = text_file(root.with_name("other"), "vocabulary"), text_file(root, "val")
    (root / theirs.name).write_bytes(theirs.read_bytes())
    text_file(root, "vocabulary").unlink()
    (root / "cache.json").unlink()
    repaired = repair(root)
    manifest = Cache.open(root).manifest
    assert manifest.vocabulary == describe(root, root / theirs.name)
    assert manifest.captions == {}
    assert (root / "damaged" / val.name).exists()
    assert repaired.left[1] == (
        f"`multispace preprocess --annotations FILE --split val --captions-only --cache {root}`: "
        "for the captions of val"
    )
    assert_sound(root)


def test_damaged_captions_are_moved_away_and_the_others_kept(root):
    flip(text_file(root, "val"), 4000)
    repaired = repair(root)
    assert list(Cache.open(root).manifest.captions) == ["train"]
    assert [line.split("`: ")[1] for line in repaired.left] == ["for the captions of val"]
    assert_whole(root)
    assert_sound(root)


def test_a_lost_vocabulary_takes_its_captions_off_the_list(root):
    vocabulary = text_file(root, "vocabulary")
    vocabulary.unlink()
    repaired = repair(root)
    manifest = Cache.open(root).manifest
    assert (manifest.vocabulary, manifest.captions) == (None, {})
    assert len(repaired.left) == 2
    assert repaired.done[0] == f"{vocabulary.name}: not there as a file; no longer listed"
    assert_whole(root)
    assert_sound(root)


def test_damaged_bytes_are_never_opened(root, monkeypatch):
    shards = Cache.open(root).manifest.shards
    bad = {root / shards[0].file, text_file(root, "val")}
    for path in bad:
        flip(path, 8000)
    wrong = [path.read_bytes() for path in bad]
    real = h5py.File

    def checked(file, *arguments):
        file.seek(0)
        content = bytearray(file.seek(0, os.SEEK_END))
        file.seek(0)
        file.readinto(content)
        assert content not in wrong
        return real(file, *arguments)

    monkeypatch.setattr(h5py, "File", checked)
    repair(root)
    assert_sound(root)


def test_unlisted_shards_are_listed_or_moved_away(root):
    more = [write_shard(root / "features", n, SPEC, [k], digests([k]), vectors([k]))
            for n, k in ((8, "x.jpg"), (9, "y.jpg"))]  # fmt: skip
    flip(root / more[1].file, 700)
    (root / "features" / "00010-00000000.h5").symlink_to(root / more[0].file)
    repaired = repair(root)
    assert repaired.done == (
        f"{more[0].file}: whole and not listed; it is listed now",
        f"{more[1].file}: its bytes do not match its name; moved into damaged/",
        "features/00010-00000000.h5: not a plain file; moved into damaged/",
    )
    assert_whole(root, [*KEYS, "x.jpg"])
    assert_sound(root)


def test_whole_shards_that_do_not_belong_are_moved_away(root):
    write_shard(root / "features", 7, SPEC, KEYS[1:2], digests(KEYS[1:2]), vectors(KEYS[1:2]))
    other = replace(SPEC, pooling="maximum")
    write_shard(root / "features", 8, other, ["x"], digests(["x"]), vectors(["x"]))
    odd = write_shard(root / "features", 9, SPEC, ["z"], digests(["z"]), vectors(["z"]))
    with h5py.File(root / odd.file, "r+") as file:
        file["more"] = [1]
    held = describe(root, root / odd.file)
    (root / odd.file).rename(root / "features" / f"00009-{held.sha256[:8]}.h5")
    (root / "features" / "00010-00000000.h5").mkdir()
    repair(root)
    assert_whole(root)
    assert_sound(root)
    assert [p.name[:5] for p in sorted((root / "damaged").glob("*.h5"))] == [
        "00007", "00008", "00009", "00010",
    ]  # fmt: skip


def test_without_a_manifest_most_vectors_say_what_the_cache_is(root):
    other = replace(SPEC, pooling="maximum")
    write_shard(root / "features", 0, other, ["x"], digests(["x"]), vectors(["x"]))
    (root / "cache.json").unlink()
    repair(root)
    assert Cache.open(root).spec == SPEC
    assert_whole(root)


def test_a_wrong_count_of_rows_is_put_right(root):
    shards = Cache.open(root).manifest.shards
    list_anew(root, shards=(replace(shards[0], rows=9), *shards[1:]))
    repair(root)
    assert_whole(root)
    assert_sound(root)


def test_failures_that_name_no_image_are_taken_out(root):
    list_anew(root, failures={"../../x": "gone", "x.jpg": "empty file"})
    repair(root, images=root.parent)
    assert Cache.open(root).failures == {"x.jpg": "empty file"}
    assert_sound(root)


@pytest.mark.parametrize("rows", [[1], [0, 3, 4], [0, 1, 2, 3, 4]])
def test_vectors_that_are_not_finite_are_taken_out_alone(tmp_path, rows):
    features = vectors(KEYS)
    features[rows, 1] = np.nan
    entry = plain_shard(tmp_path, 3, KEYS, features)
    write_manifest(tmp_path, Manifest(SPEC, (entry,)))
    repaired = repair(tmp_path)
    bad = [KEYS[row] for row in rows]
    assert Cache.open(tmp_path).failures == dict.fromkeys(bad, NOT_FINITE)
    assert_whole(tmp_path, [key for key in KEYS if key not in bad])
    assert_sound(tmp_path)
    assert f"{len(bad)} images have no vector" in repaired.left[0]


def test_a_repair_that_was_killed_is_finished_by_the_next(tmp_path, monkeypatch):
    features = vectors(KEYS)
    features[1] = np.inf
    entry = plain_shard(tmp_path, 3, KEYS, features)
    write_manifest(tmp_path, Manifest(SPEC, (entry,)))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(multispace.data.maintenance.damaged_files, "write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            repair(tmp_path)
    assert len(list(tmp_path.glob("features/*.h5"))) == 2
    repair(tmp_path)
    assert_whole(tmp_path, [key for key in KEYS if key != KEYS[1]])
    assert_sound(tmp_path)


def test_nothing_is_deleted(root):
    """All bytes that were there before a repair are there after it."""
    shards = Cache.open(root).manifest.shards
    flip(root / shards[0].file, 5000)
    flip(root / shards[1].keys.file, 40)
    for what in ("val", "vocabulary"):
        flip(text_file(root, what), 400)
    flip(root / "cache.json", 40)
    (root / "damaged").mkdir()
    (root / "damaged" / Path(shards[0].file).name).write_bytes(b"of an earlier repair")

    def contents():
        return {path.read_bytes() for path in root.rglob("*") if path.is_file()}

    before = contents()
    repair(root)
    assert before <= contents()
    assert (root / "damaged" / f"{Path(shards[0].file).name}.1").exists()
    assert_sound(root)


def test_a_linked_folder_of_damaged_files_is_not_followed(root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (root / "damaged").symlink_to(tmp_path / "elsewhere")
    flip(root / Cache.open(root).manifest.shards[0].file, 5000)
    with pytest.raises(CacheError, match="damaged: is a symbolic link"):
        repair(root)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_key_list_names_what_was_lost(root):
    with write_cache(root) as writer:
        append(writer, ["x.jpg", "y.jpg"])  # of no captions
    flip(root / Cache.open(root).manifest.shards[-1].file, 5000)
    for repaired in repair(root), repair(root):  # the second time they are recorded as failures
        assert repaired.left == (
            f"`multispace cache repair {root} --images DIR`: 2 images have no vector, the first is "
            "x.jpg",
        )
        manifest = Cache.open(root).manifest
        assert Cache.open(root).failures == dict.fromkeys(["x.jpg", "y.jpg"], LOST)
        lists = [(root / shard.keys.file).read_text(encoding="utf-8") for shard in manifest.shards]
        assert "".join(lists).split() == KEYS
    assert_whole(root)


def test_lost_vectors_that_no_captions_name_are_told(tmp_path):
    with write_cache(tmp_path) as writer:
        append(writer, KEYS)
    manifest = Cache.open(tmp_path).manifest
    flip(tmp_path / manifest.shards[0].file, 5000)
    flip(tmp_path / manifest.shards[0].keys.file, 5)
    (line,) = repair(tmp_path).left
    assert line.startswith("`multispace preprocess --annotations FILE --images DIR --cache")
    assert "at least 5 vectors are lost" in line
    assert_sound(tmp_path)


def test_a_damaged_key_list_is_written_again(root):
    entry = Cache.open(root).manifest.shards[1].keys
    flip(root / entry.file, 5)
    repaired = repair(root)
    (line,) = repaired.done
    assert line.startswith(f"{entry.file}: digest ")
    assert line.endswith("; written anew")
    assert (root / "damaged" / entry.file.removeprefix("features/")).exists()
    assert Cache.open(root).manifest.shards[1].keys == entry
    assert_whole(root)
    assert_sound(root)


def test_a_damaged_file_of_failures_is_taken_out(root):
    with write_cache(root) as writer:
        append(writer, [], {"x.jpg": "empty file"})
    entry = Cache.open(root).manifest.failures
    flip(root / entry.file, 5)
    (line,) = repair(root).done
    assert line.startswith(f"{entry.file}: digest ")
    assert (root / "damaged" / entry.file).exists()
    assert Cache.open(root).failures == {}
    assert_sound(root)


def test_a_cache_of_version_1_is_converted_where_something_is_to_be_repaired(root):
    with write_cache(root) as writer:
        append(writer, [], {"x.jpg": "empty file"})
    to_version_1(root)
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    assert repair(root).done == ()
    assert before == {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    shards = Cache.open(root).manifest.shards
    flip(root / shards[1].file, 5000)
    flip(root / "captions" / "val.h5", 5000)
    repair(root)
    cache = Cache.open(root)
    assert cache.manifest.version == 2
    assert cache.failures == {"x.jpg": "empty file", **dict.fromkeys(KEYS[2:4], LOST)}
    assert list(cache.manifest.captions) == ["train"]
    assert (root / "damaged" / "val.h5").exists()
    assert_whole(root, KEYS[:2] + KEYS[4:])
    assert_sound(root)


@pytest.mark.parametrize("key_list", [True, False])
def test_a_lost_manifest_of_version_1_is_made_again_in_version_2(root, key_list):
    to_version_1(root, key_list)
    (root / "cache.json").unlink()
    assert repair(root).left == ()
    cache = Cache.open(root)
    assert cache.manifest.version == 2
    assert list(cache.manifest.captions) == ["train", "val"]
    assert not (root / "vocabulary.json").exists()
    assert_whole(root)
    assert_sound(root)
    for split in cache.manifest.captions:
        assert cache.captions(split).split == split


def test_of_several_vocabularies_that_of_the_captions_is_taken(root):
    cache = Cache.open(root)
    vocabulary = cache.vocabulary()
    for words in (vocabulary.words[:-1], vocabulary.words[:-2]):
        content = replace(vocabulary, words=words).to_bytes()
        write_named(root, "vocabulary", ".json", content)
    (root / "cache.json").unlink()
    repair(root)
    assert Cache.open(root).manifest.vocabulary == cache.manifest.vocabulary
    assert len(list((root / "damaged").iterdir())) == 2
    assert_sound(root)


def test_there_is_one_writer(root):
    flip(root / "cache.json", 10)
    before = (root / "cache.json").read_bytes()
    with FileLock(root / ".lock"), pytest.raises(CacheError, match="another process is writing"):
        repair(root)
    assert (root / "cache.json").read_bytes() == before


def test_another_version_is_left_alone(root):
    path = root / "cache.json"
    body = json.loads(path.read_bytes())
    body.pop("digest")
    body["version"] = 3
    body["digest"] = hashlib.sha256(rfc8785.dumps(body)).hexdigest()
    path.write_bytes(rfc8785.dumps(body))
    before = sorted(root.rglob("*"))
    with pytest.raises(CacheError, match="version 3, this .* reads 1 and 2; update this software"):
        repair(root)
    assert sorted(root.rglob("*")) == before


def test_options_and_folders_are_checked(root, tmp_path):
    with pytest.raises(OptionError, match="--images nowhere: not a folder"):
        repair(root, images=Path("nowhere"))
    with pytest.raises(OptionError, match="--weights x: is used only together with --images"):
        repair(root, weights="x")
    with pytest.raises(CacheError, match="not a cache"):
        repair(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("manifest_too", [False, True])
def test_exactly_the_lost_vectors_are_extracted_again(extracted, manifest_too):
    root, images = extracted
    before = content(root)
    shards = Cache.open(root).manifest.shards
    kept = {e.file: (root / e.file).stat().st_mtime_ns for e in shards}
    flip(root / shards[0].file, 40000)
    (root / shards[3].file).unlink()
    if manifest_too:
        flip(root / "cache.json", 77)
    repaired = repair(root, images=images, device="cpu", workers=2)
    assert repaired.left == ()
    assert repaired.added == shards[0].rows + shards[3].rows
    assert content(root) == before
    assert Cache.open(root).manifest.rows == SPLITS["train"] + SPLITS["val"]
    for entry in (shards[1], shards[2]):
        assert (root / entry.file).stat().st_mtime_ns == kept[entry.file]
    assert_sound(root)
    assert repair(root, images=images, device="cpu").done == ()


def test_vectors_that_are_not_finite_are_extracted_again(extracted):
    root, images = extracted
    before = content(root)
    cache = Cache.open(root)
    entry, shard = cache.manifest.shards[0], cache.shards[0]
    key = shard.keys[1]
    with h5py.File(root / entry.file, "r+") as file:
        file["features"][1, 7] = np.nan
    held = describe(root, root / entry.file)
    file = f"features/00000-{held.sha256[:8]}.h5"
    (root / entry.file).rename(root / file)
    changed = ShardEntry(file, held.sha256, held.bytes, entry.rows)
    list_anew(root, shards=(changed, *cache.manifest.shards[1:]))
    repaired = repair(root, images=images, device="cpu", workers=2)
    assert (repaired.added, repaired.left) == (1, ())
    assert content(root).keys() == before.keys()
    assert content(root)[key] == before[key]
    assert Cache.open(root).failures == {}
    assert_sound(root)


def test_images_that_are_not_there_are_left_and_broken_ones_named(extracted):
    root, images = extracted
    keys = Cache.open(root).shards[0].keys
    (root / Cache.open(root).manifest.shards[0].file).unlink()
    (images / keys[0]).unlink()
    (images / keys[1]).write_bytes(b"no image")
    repaired = repair(root, images=images, device="cpu", workers=2)
    assert repaired.added == 3
    assert repaired.left == (
        f"restore {images}/{keys[1]}: not an image of a known format",
        f"`multispace cache repair {root} --images DIR`: 1 images have no vector and are not under "
        f"{images}, the first is {keys[0]}",
    )
    failures = Cache.open(root).failures
    assert list(failures) == [keys[0], keys[1]]
    assert (failures[keys[0]], failures[keys[1]]) == (LOST, "not an image of a known format")
    assert_sound(root)


def test_failures_are_tried_again(tmp_path):
    collection = make_collection(tmp_path / "collection")
    image = collection / "images" / "train-002.png"
    whole = image.read_bytes()
    image.write_bytes(b"")
    extract_cache(tmp_path / "cache", collection, ("train",))
    assert repair(tmp_path / "cache").left == ()  # known, and no fault
    image.write_bytes(whole)
    repaired = repair(tmp_path / "cache", images=collection / "images", device="cpu")
    assert (repaired.added, repaired.left) == (1, ())
    assert Cache.open(tmp_path / "cache").manifest.rows == SPLITS["train"]


def test_other_weights_are_refused(extracted):
    root, images = extracted
    (root / Cache.open(root).manifest.shards[0].file).unlink()
    with pytest.raises(CacheError, match=r"--weights random:9: not .*weights_sha256.*; give --w"):
        repair(root, images=images, weights="random:9", device="cpu")
    with pytest.raises(WeightsError, match="no such file"):
        repair(root, images=images, weights="nowhere.pth", device="cpu")
    assert_sound(root)
    assert repair(root, images=images, weights="random:3", device="cpu").added == 5
