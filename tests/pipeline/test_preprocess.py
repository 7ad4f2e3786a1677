import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.paths import ROOT
from support.tiny import SPLITS, make_cache, make_collection, options

import multispace.data.image_inputs
import multispace.pipeline.preparation.backbone_choice
import multispace.pipeline.preparation.inputs
from multispace.data.annotations import read_collection
from multispace.data.cache.reader import Cache
from multispace.errors import CacheError, OptionError, PipelineError, VocabularyError, WeightsError
from multispace.pipeline.preparation.estimate import estimate
from multispace.pipeline.preprocess import preprocess

COCO = ROOT.parent / "shared" / "data" / "coco" / "captions_val2014.json"


@pytest.fixture
def collection(tmp_path):
    return make_collection(tmp_path / "collection")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_every_image_gets_its_own_vector(collection, cache):
    summary = make_cache(cache, collection)
    opened = Cache.open(cache)
    assert summary.vectors == opened.manifest.rows == sum(SPLITS.values())
    assert not summary.skipped
    red = [k for p in read_collection(collection / "train.json").images
           for k in [p.key] if "red" in p.captions[0]]  # fmt: skip
    vectors = opened.features(red).astype(float)
    others = opened.features([f"train-{n:03d}.png" for n in (1, 2, 4, 5)]).astype(float)
    within = abs(vectors - vectors.mean(0)).mean()
    between = abs(others.mean(0) - vectors.mean(0)).mean()
    assert between > 2 * within  # images of one colour lie together


def test_a_vector_does_not_depend_on_what_else_is_extracted(collection, cache, tmp_path):
    make_cache(cache, collection)
    whole = Cache.open(cache)
    alone = json.loads((collection / "train.json").read_text())
    alone["images"] = alone["images"][:1]
    alone["annotations"] = alone["annotations"][:2]
    (collection / "one.json").write_text(json.dumps(alone))
    preprocess(
        options(tmp_path / "other", collection, annotations=collection / "one.json", shard_size=1)
    )
    key = alone["images"][0]["file_name"]
    single = Cache.open(tmp_path / "other")
    assert (single.features([key]) == whole.features([key])).all()


def test_the_first_training_split_makes_the_vocabulary(collection, cache):
    first = preprocess(options(cache, collection, "train"))
    second = preprocess(options(cache, collection, "val"))
    assert (first.vocabulary_made, second.vocabulary_made) == (True, False)
    assert first.words == second.words == len("an image this is all red green blue".split())
    assert second.splits["val"].unknown == 0


def test_a_validation_split_alone_makes_no_vocabulary(collection, cache):
    with pytest.raises(VocabularyError, match="preprocess the training split first"):
        preprocess(options(cache, collection, "val"))


def test_words_of_other_splits_do_not_count(collection, cache):
    content = json.loads((collection / "val.json").read_text())
    for annotation in content["annotations"]:
        annotation["caption"] = "zebra zebra"
    (collection / "val.json").write_text(json.dumps(content))
    make_cache(cache, collection, ("train", "val"))
    assert "zebra" not in Cache.open(cache).vocabulary().words
    assert Cache.open(cache).captions("val").unknown_share == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer": "treebank"}, "--tokenizer treebank.*whitespace"),
        ({"min_count": 3}, "--min-count 3.*made with 1"),
    ],
)
def test_options_that_contradict_the_vocabulary_are_refused(collection, cache, change, message):
    preprocess(options(cache, collection))
    with pytest.raises(OptionError, match=message):
        preprocess(options(cache, collection, "val", **change))


def test_other_features_are_refused_by_name(collection, cache):
    preprocess(options(cache, collection))
    with pytest.raises(CacheError, match="weights_sha256"):
        preprocess(options(cache, collection, "val", weights="random:4"))
    with pytest.raises(CacheError, match="transform.*'crop': 32.*'crop': 24"):
        preprocess(options(cache, collection, "val", crop=24))


def test_later_calls_take_the_backbone_of_the_cache(collection, cache):
    preprocess(options(cache, collection))
    unsaid = dict(backbone=None, weights=None, resize=None, crop=None, min_count=None)
    preprocess(options(cache, collection, "val", **unsaid))
    assert Cache.open(cache).manifest.rows == SPLITS["train"] + SPLITS["val"]


def test_a_rerun_does_only_what_is_missing(collection, cache):
    preprocess(options(cache, collection))
    shards = Cache.open(cache).manifest.shards
    again = preprocess(options(cache, collection))
    assert (again.added, again.vectors) == (0, SPLITS["train"])
    assert Cache.open(cache).manifest.shards == shards


def test_unreadable_images_are_named_and_tried_again(collection, cache):
    broken = collection / "images" / "train-003.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    (collection / "images" / "train-005.png").rename(collection / "away.png")
    summary = preprocess(options(cache, collection))
    assert summary.skipped["missing image"] == ["train-005.png: no such file"]
    assert summary.skipped["unreadable image"][0].startswith("train-003.png: not a readable")
    assert json.loads((cache / "skipped.json").read_text()) == summary.skipped
    assert summary.splits["train"].with_vectors == SPLITS["train"] - 2
    broken.write_bytes(whole)
    (collection / "away.png").rename(collection / "images" / "train-005.png")
    repaired = preprocess(options(cache, collection))
    assert (repaired.added, repaired.skipped) == (2, {})
    assert not Cache.open(cache).failures
    assert not (cache / "skipped.json").exists()


def test_an_image_that_changed_is_refused(collection, cache):
    preprocess(options(cache, collection))
    Image.new("RGB", (48, 40), "white").save(collection / "images" / "train-001.png")
    with pytest.raises(PipelineError, match=r"train-001\.png: its bytes are not those"):
        preprocess(options(cache, collection))


def test_captions_first_and_features_later(collection, cache):
    preprocess(options(cache, collection, images=None, captions_only=True))
    with pytest.raises(CacheError, match="holds no features"):
        _ = Cache.open(cache).spec
    summary = preprocess(options(cache, collection))
    assert not summary.vocabulary_made
    assert summary.added == SPLITS["train"]


def test_a_collection_without_a_split_is_for_training_when_it_is_the_first(collection, cache):
    (collection / "train.json").rename(collection / "pictures.json")
    named = dict(annotations=collection / "pictures.json", split=None)
    summary = preprocess(options(cache, collection, **named))
    assert "read as split 'train'" in summary.notes[-1]
    (collection / "val.json").rename(collection / "others.json")
    with pytest.raises(OptionError, match="give --split NAME"):
        preprocess(options(cache, collection, annotations=collection / "others.json", split=None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"captions_only": True}, "--images DIR or --captions-only"),
        ({"images": Path("nowhere")}, "--images nowhere: not a folder"),
        ({"shard_size": 0}, "--shard-size 0"),
        ({"workers": 0}, "--workers 0"),
        ({"min_count": 0}, "--min-count 0"),
        ({"backbone": "resnet18,../x"}, "--backbone resnet18,../x: use one of resnet18, "),
    ],
)
def test_options_are_checked_together(collection, cache, change, message):
    with pytest.raises(OptionError, match=message):
        options(cache, collection, **change)


def test_unknown_weights_leave_no_cache_behind(collection, cache):
    with pytest.raises(WeightsError, match="no such file"):
        preprocess(options(cache, collection, weights="nowhere.pth"))
    assert not (cache / "cache.json").exists()


def test_several_backbones_make_a_cache_each_from_one_decoding(
    collection, cache, tmp_path, monkeypatch
):
    decoded = []
    real = multispace.data.image_inputs.decode
    monkeypatch.setattr(
        multispace.data.image_inputs,
        "decode",
        lambda content, path: decoded.append(path) or real(content, path),
    )
    (collection / "images" / "train-004.png").write_bytes(b"no image")
    summary = preprocess(options(cache, collection, backbone="resnet18,resnet34"))
    assert len(decoded) == SPLITS["train"]
    assert (summary.added, summary.vectors) == (2 * 11, 2 * 11)
    assert [line.split(":")[0] for line in summary.skipped["unreadable image"]] == ["train-004.png"]
    for name in ("resnet18", "resnet34"):
        preprocess(options(tmp_path / name, collection, backbone=name))
        manifest = Cache.open(tmp_path / name).manifest
        for file in ("cache.json", *(entry.file for entry in manifest.files())):
            alone = (tmp_path / name / file).read_bytes()
            assert (cache / name / file).read_bytes() == alone, (name, file)
    assert sorted(path.name for path in cache.iterdir()) == ["resnet18", "resnet34", "skipped.json"]


def test_of_several_caches_each_gets_what_it_lacks(collection, cache):
    both = dict(backbone="resnet18,resnet34")
    preprocess(options(cache / "resnet18", collection))
    kept = Cache.open(cache / "resnet18").manifest.shards
    assert preprocess(options(cache, collection, **both)).added == SPLITS["train"]
    assert Cache.open(cache / "resnet18").manifest.shards == kept
    assert preprocess(options(cache, collection, **both)).added == 0
    with pytest.raises(OptionError, match="one backbone with --captions-only or --ray"):
        options(cache, collection, ray="auto", **both)


def test_a_grid_and_mirror_images_are_recorded_and_kept_by_later_calls(collection, cache):
    preprocess(options(cache, collection, pool="grid", flip=True, crop=32, resize=40))
    spec = Cache.open(cache).spec
    assert (spec.pooling, spec.dimension) == ("grid 1 x 1, row by row", 512)
    assert spec.decode.endswith(", mean with the mirror image")
    unsaid = dict(backbone=None, weights=None, resize=None, crop=None, min_count=None)
    assert preprocess(options(cache, collection, "val", **unsaid)).added == SPLITS["val"]
    for other in ({"pool": "average"}, {"flip": False}):
        with pytest.raises(CacheError, match="made differently"):
            preprocess(options(cache, collection, "test", **{**unsaid, **other}))


KILL = """
import os, signal, sys
sys.path[:0] = [{root!r}, {tests!r}]
import multispace.data.cache.writer as writer
import multispace.data.image_inputs as images
from support.tiny import options
from pathlib import Path
from multispace.pipeline.preprocess import preprocess
place, count = {place!r}, {count}
module = dict(decode=images, write_shard=writer, write_manifest=writer)[place]
real = getattr(module, place)
def dies(*args, **kwargs):
    global count
    count -= 1
    if count < 0 and not {after}:
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*args, **kwargs)
    if count < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(module, place, dies)
preprocess(options(Path({cache!r}), Path({collection!r}), shard_size=4))
"""


@pytest.mark.parametrize(
    ("place", "count", "after"),
    [
        ("decode", 6, False),
        ("write_shard", 1, False),
        ("write_shard", 1, True),
        ("write_manifest", 3, False),
        ("write_manifest", 3, True),
    ],
)
def test_a_killed_run_is_finished_by_the_same_command(
    collection, cache, tmp_path, place, count, after
):
    script = KILL.format(
        root=str(ROOT), tests=str(ROOT / "tests"), place=place, count=count, after=after,
        cache=str(cache), collection=str(collection),
    )  # fmt: skip
    killed = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    preprocess(options(cache, collection, shard_size=4))
    make_cache(tmp_path / "whole", collection, ("train",))
    finished, whole = Cache.open(cache), Cache.open(tmp_path / "whole")
    keys = sorted(whole.rows)
    assert sorted(finished.rows) == keys
    assert (finished.features(keys) == whole.features(keys)).all()


@pytest.mark.skipif(not COCO.exists(), reason="the COCO captions are not here")
@pytest.mark.parametrize(
    ("tokenizer", "words"), [(None, 6277), ("whitespace-lower", 5796), ("treebank", 4570)]
)
def test_vocabulary_of_coco_val2014(cache, collection, tokenizer, words):
    asked = dict(images=None, captions_only=True, tokenizer=tokenizer, min_count=None)
    summary = preprocess(options(cache, collection, annotations=COCO, **asked))
    assert summary.words == words


# The splits that are asked for, and the files of the images


def kaggle(collection):
    """Write all captions as a table, which names no splits."""
    lines = ["image,caption"]
    for split in SPLITS:
        for image in read_collection(collection / f"{split}.json").images:
            lines += [f"{image.key},{caption}" for caption in image.captions]
    path = collection / "captions.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def text_options(cache, path, **other):
    asked = dict(split=None, annotations=path, images=None, captions_only=True)
    return options(cache, path.parent, **asked, **other)


def test_random_splits_are_made_by_image_and_recorded(collection, cache):
    path = kaggle(collection)
    asked = dict(make_splits="80,10,10", seed=5)
    summary = preprocess(text_options(cache, path, **asked))
    assert {name: split.images for name, split in summary.splits.items()} == {
        "train": 16, "val": 2, "test": 2,
    }  # fmt: skip
    assert "random splits 80,10,10 with seed 5: 16 train, 2 val, 2 test images" in summary.notes
    record = json.loads((cache / "splits.json").read_text())
    assert (record["percentages"], record["seed"]) == ([80, 10, 10], 5)
    keys = Cache.open(cache).captions("val").keys
    preprocess(text_options(cache, path, **asked))
    assert Cache.open(cache).captions("val").keys == keys
    with pytest.raises(OptionError, match="--make-splits 80,10,10 --seed 6: .* records splits of"):
        preprocess(text_options(cache, path, **{**asked, "seed": 6}))
    assert Cache.open(cache).captions("val").keys == keys


def test_a_collection_without_splits_is_told_how_to_get_them(collection, cache):
    notes = preprocess(text_options(cache, kaggle(collection))).notes
    assert "give --make-splits 80,10,10" in notes[-1]


def test_split_lists_are_named_with_what_they_list(collection, cache, tmp_path):
    path = kaggle(collection)
    lists = []
    for split in SPLITS:
        keys = [image.key for image in read_collection(collection / f"{split}.json").images]
        (tmp_path / f"{split}-list").write_text("\n".join(keys))
        lists.append(f"{split}={tmp_path / f'{split}-list'}")
    summary = preprocess(text_options(cache, path, split_list=lists))
    assert {name: split.images for name, split in summary.splits.items()} == SPLITS
    assert "split 'val': 4 images, listed in val-list" in summary.notes


def test_other_split_names_get_advice_that_works(collection, cache, tmp_path):
    path = collection / "captions.csv"
    lines = kaggle(collection).read_text().splitlines()[1:]
    path.write_text("image,caption,split\n" + "".join(f"{line},fold1\n" for line in lines))
    with pytest.raises(VocabularyError, match="the splits fold1; .* give --split-list train=FILE"):
        preprocess(text_options(cache, path))
    names = [line.partition(",")[0] for line in lines]
    (tmp_path / "list").write_text("\n".join(dict.fromkeys(names)))
    made = preprocess(text_options(cache, path, split_list=[f"train={tmp_path / 'list'}"]))
    assert made.splits["train"].images == 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split_list": ["val"]}, "--split-list val: expected NAME=FILE"),
        ({"split_list": ["val=a", "val=b"]}, "--split-list val=b: expected NAME=FILE, each name"),
        ({"make_splits": "80,20"}, "--make-splits 80,20: expected three percentages"),
        ({"make_splits": "80,30,-10"}, "expected three percentages"),
        ({"make_splits": "80,10,x"}, "expected three percentages"),
        ({"make_splits": "80,10,10", "split_list": ["val=a"]}, "either --split-list or"),
    ],
)
def test_options_of_splits_are_checked(collection, cache, change, message):
    with pytest.raises(OptionError, match=message):
        text_options(cache, kaggle(collection), **change)


def test_a_folder_without_any_of_the_images_is_an_error_that_leaves_no_cache(collection, cache):
    (collection / "other").mkdir()
    (collection / "other" / "cat.png").write_bytes(b"x")
    wrong = dict(images=collection / "other")
    for call in (preprocess, estimate):
        with pytest.raises(PipelineError, match="has none of the 12 images of .*'cat.png'"):
            call(options(cache, collection, **wrong))
        assert not cache.exists()
    preprocess(options(cache, collection))
    assert preprocess(options(cache, collection, **wrong)).added == 0  # it has their features


def test_images_in_another_folder_are_used_if_asked(collection, cache, tmp_path):
    (tmp_path / "images").mkdir()
    (collection / "images").rename(tmp_path / "images" / "val2014")
    away = dict(images=tmp_path / "images")
    with pytest.raises(PipelineError, match="12 are there in another folder.*--match-names"):
        preprocess(options(cache, collection, **away))
    assert not cache.exists()
    summary = preprocess(options(cache, collection, match_names=True, **away))
    assert (summary.added, summary.skipped) == (12, {})
    preprocess(options(tmp_path / "other", collection, images=tmp_path / "images" / "val2014"))
    keys = sorted(Cache.open(cache).rows)
    found, expected = (Cache.open(root).features(keys) for root in (cache, tmp_path / "other"))
    assert (found == expected).all()


def test_text_without_blanks_is_noticed(cache, tmp_path):
    path = tmp_path / "zh.txt"
    path.write_text("".join(f"{n}.jpg#zhc#0 一只狗在跑\n" for n in range(3)))
    notes = preprocess(text_options(cache, path, min_count=1)).notes
    assert any("--tokenizer characters" in note for note in notes)
    asked = text_options(tmp_path / "other", path, min_count=1, tokenizer="characters")
    summary = preprocess(asked)
    assert summary.words == 5
    assert not any("--tokenizer" in note for note in summary.notes)


def test_very_many_missing_images_are_counted_and_left_out(collection, cache, monkeypatch):
    monkeypatch.setattr(multispace.pipeline.preparation.inputs, "MAX_RECORDED", 5)
    away = collection / "away"
    away.mkdir()
    for number in range(1, 8):
        name = f"train-{number:03d}.png"
        (collection / "images" / name).rename(away / name)
    summary = preprocess(options(cache, collection))
    assert summary.skipped == {
        "missing image": ["7 images have no file, the first is train-001.png"]
    }
    opened = Cache.open(cache)
    assert opened.failures == {}
    assert opened.captions("train").images == 12 - 7
    assert summary.words == 8  # of all training captions
    for path in away.iterdir():
        path.rename(collection / "images" / path.name)
    whole = preprocess(options(cache, collection))
    assert (whole.added, whole.skipped, whole.splits["train"].images) == (7, {}, 12)
