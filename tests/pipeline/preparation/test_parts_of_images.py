"""`preprocess --part`: several processes share the images of a collection out."""

import json
import subprocess
import sys

import numpy as np
import pytest
from support.paths import ROOT
from support.tiny import SPLITS, make_collection, options

from multispace.data.cache.format.manifest_reader import read_manifest
from multispace.data.cache.reader import Cache
from multispace.data.maintenance.merge import merge_caches
from multispace.data.maintenance.verify import verify_cache
from multispace.errors import OptionError, PipelineError
from multispace.pipeline.preparation.estimate import estimate
from multispace.pipeline.preprocess import preprocess

BROKEN, MISSING = "train-003.png", "val-014.png"


@pytest.fixture
def collection(tmp_path):
    """Return a collection whose splits are in one file, ``all.json``."""
    folder = make_collection(tmp_path / "collection")
    entries = []
    for split in SPLITS:
        content = json.loads((folder / f"{split}.json").read_text())
        names = {image["id"]: image["file_name"] for image in content["images"]}
        entries += [
            {"image": names[each["image_id"]], "caption": each["caption"], "split": split}
            for each in content["annotations"]
        ]
    (folder / "all.json").write_text(json.dumps(entries))
    return folder


def asked(cache, collection, part=None, **other):
    return options(
        cache,
        collection,
        annotations=collection / "all.json",
        part=part,
        **{"split": None, **other},
    )


def multispace(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "multispace", *map(str, words)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finished(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def extraction(cache, collection, *part):
    return multispace(
        "preprocess", "--annotations", collection / "all.json", "--images", collection / "images",
        "--cache", cache, "--backbone", "resnet18", "--weights", "random:3", "--resize", 32,
        "--crop", 32, "--min-count", 1, "--precision", "float32", "--device", "cpu",
        "--workers", 1, *part,
    )  # fmt: skip


def assert_same(cache, other):
    """Check that two caches have the same vectors in the same order, words, captions, failures."""
    one, two = Cache.open(cache), Cache.open(other)
    assert list(one.rows) == list(two.rows)
    assert one.manifest.captions == two.manifest.captions  # their digests
    assert one.manifest.vocabulary == two.manifest.vocabulary
    assert one.failures == two.failures
    np.testing.assert_allclose(
        one.features(list(one.rows)), two.features(list(two.rows)), rtol=1e-3, atol=1e-4
    )
    assert one.spec.fingerprint == two.spec.fingerprint


def test_parts_of_several_processes_merge_into_the_cache_of_one(collection, tmp_path):
    (collection / "images" / BROKEN).write_bytes(b"no image")
    (collection / "images" / MISSING).unlink()
    processes = [
        extraction(tmp_path / f"part{n}", collection, "--part", f"{n}/3") for n in (1, 2, 3)
    ]
    one = extraction(tmp_path / "one", collection)
    results = [finished(process) for process in processes]
    assert [status for status, _, _ in results] == [0, 3, 3], results  # two skip an image each
    assert "part 2/3: 7 of 20 images; vocabulary and captions are those of all" in results[1][2]
    assert finished(one)[0] == 3
    parts = [tmp_path / f"part{n}" for n in (1, 2, 3)]
    assert [read_manifest(part).rows for part in parts] == [6, 6, 6]
    for part in parts:
        assert read_manifest(part).captions == read_manifest(tmp_path / "one").captions
    status, out, err = finished(
        multispace("cache", "merge", *parts, "--into", tmp_path / "whole", "--json")
    )
    assert (status, json.loads(out)["left_out"]) == (0, []), err
    assert finished(multispace("cache", "verify", tmp_path / "whole"))[0] == 0
    assert_same(tmp_path / "whole", tmp_path / "one")
    assert set(Cache.open(tmp_path / "whole").failures) == {BROKEN, MISSING}


def test_splits_in_files_of_their_own(collection, tmp_path):
    """Each call divides the images of its file."""
    parts = [tmp_path / f"part{n}" for n in (1, 2)]
    for split in SPLITS:
        preprocess(options(tmp_path / "one", collection, split))
        for number, part in enumerate(parts, start=1):
            preprocess(options(part, collection, split, part=f"{number}/2"))
    assert [read_manifest(part).rows for part in parts] == [10, 10]
    merge_caches(parts, tmp_path / "whole")
    assert verify_cache(tmp_path / "whole").faults == ()
    whole, one = Cache.open(tmp_path / "whole"), Cache.open(tmp_path / "one")
    assert whole.manifest.captions == one.manifest.captions
    assert whole.manifest.vocabulary == one.manifest.vocabulary
    np.testing.assert_allclose(
        whole.features(list(one.rows)), one.features(list(one.rows)), rtol=1e-3, atol=1e-4
    )


def test_a_rerun_of_a_part_does_only_what_is_missing(collection, tmp_path):
    broken = collection / "images" / "train-001.png"
    whole = broken.read_bytes()
    broken.write_bytes(b"no image")
    cache = tmp_path / "cache"
    first = preprocess(asked(cache, collection, "1/2"))
    assert (first.added, first.vectors) == (9, 9)
    assert list(first.skipped) == ["unreadable image"]
    broken.write_bytes(whole)
    again = preprocess(asked(cache, collection, "1/2"))
    assert (again.added, again.vectors, again.skipped) == (1, 10, {})
    assert preprocess(asked(cache, collection, "1/2")).added == 0
    other = preprocess(asked(cache, collection, "2/2"))  # into the same cache
    assert (other.added, other.vectors) == (10, 20)
    assert preprocess(asked(cache, collection)).added == 0


def test_only_the_images_of_the_part_need_to_be_there(collection, tmp_path, monkeypatch):
    monkeypatch.setattr("multispace.pipeline.preparation.inputs.MAX_RECORDED", 2)
    for path in sorted((collection / "images").iterdir())[10:]:
        path.unlink()
    summary = preprocess(asked(tmp_path / "cache", collection, "1/2"))
    images = {name: split.images for name, split in summary.splits.items()}
    assert (summary.added, summary.skipped, images) == (10, {}, SPLITS)
    with pytest.raises(PipelineError, match="has none of the 10 images"):
        preprocess(asked(tmp_path / "other", collection, "2/2"))


def test_very_many_missing_images_of_a_part_are_recorded(collection, tmp_path, monkeypatch):
    """The captions of a part never depend on what this machine lacks."""
    monkeypatch.setattr("multispace.pipeline.preparation.inputs.MAX_RECORDED", 2)
    away = sorted((collection / "images").iterdir())[:5]
    for path in away:
        path.unlink()
    summary = preprocess(asked(tmp_path / "cache", collection, "1/2"))
    assert set(Cache.open(tmp_path / "cache").failures) == {path.name for path in away}
    assert {name: split.images for name, split in summary.splits.items()} == SPLITS


def test_a_part_without_images_holds_captions_only(collection, tmp_path):
    summary = preprocess(options(tmp_path / "cache", collection, part="1/30"))
    assert (summary.added, summary.vectors) == (0, 0)
    preprocess(options(tmp_path / "other", collection, part="30/30"))
    preprocess(options(tmp_path / "other", collection))
    merged = merge_caches([tmp_path / "cache", tmp_path / "other"], tmp_path / "whole")
    assert (merged.rows, merged.left_out) == (SPLITS["train"], ())


def test_an_estimate_is_that_of_the_part(collection, tmp_path):
    found = estimate(asked(tmp_path / "cache", collection, "2/4"))
    assert (found.images, found.held, found.absent) == (5, 0, 0)
    assert found.notes[-1].startswith("part 2/4: 5 of 20 images")
    assert not (tmp_path / "cache").exists()


def test_several_backbones(collection, tmp_path):
    preprocess(asked(tmp_path / "cache", collection, "1/4", backbone="resnet18,resnet34"))
    for name in ("resnet18", "resnet34"):
        assert read_manifest(tmp_path / "cache" / name).rows == 5


@pytest.mark.parametrize("part", ["9/8", "0/8", "x", "3", "3/0", ""])
def test_what_is_no_part_is_one_line(collection, tmp_path, part):
    with pytest.raises(OptionError) as caught:
        asked(tmp_path / "cache", collection, part)
    hint = "expected K/N with K from 1 to N; for example --part 3/8"
    assert str(caught.value) == " ".join(f"--part {part}: {hint}".split())


def test_the_command_says_so_in_one_line(collection, tmp_path):
    status, out, err = finished(extraction(tmp_path / "cache", collection, "--part", "9/8"))
    assert (status, out) == (2, "")
    assert err == "error: --part 9/8: expected K/N with K from 1 to N; for example --part 3/8\n"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"ray": "auto"}, "^--part 1/2 and --ray auto: Ray divides the images by itself; give one"),
        (
            {"captions_only": True, "images": None},
            "^--part 1/2: has no effect with --captions-only",
        ),
    ],
)
def test_what_divides_nothing_is_refused(collection, tmp_path, other, message):
    with pytest.raises(OptionError, match=message):
        asked(tmp_path / "cache", collection, "1/2", **other)
