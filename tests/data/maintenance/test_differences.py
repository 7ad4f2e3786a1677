import json
from dataclasses import replace

import numpy as np
import pytest
from support.rows import CAPTIONS, KEYS, SPEC, append, digests, make_cache, put_text, vectors

from multispace.data.cache.format.spec import IMPORTED_UNSEEN
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.data.maintenance import differences as compare
from multispace.data.maintenance.differences import compare_caches
from multispace.errors import CacheError, DamagedFileError


@pytest.fixture
def a(tmp_path):
    make_cache(tmp_path / "a")
    return tmp_path / "a"


@pytest.fixture
def b(tmp_path):
    return tmp_path / "b"


def fill(root, keys, values, spec=SPEC, images=None):
    with write_cache(root) as writer:
        writer.append(spec, keys, digests(keys if images is None else images), values, {})


def test_a_cache_is_like_itself(a):
    found = compare_caches(a, a)
    assert all(row.same for row in (*found.meaning, *found.detail, *found.splits))
    assert found.vocabulary.same
    assert found.vocabulary.a == Cache.open(a).vocabulary().digest
    assert (found.both, found.only_a, found.only_b, found.changed) == (5, 0, 0, ())
    assert found.cosine.minimum == pytest.approx(1, abs=1e-6)
    assert found.cosine.median <= 1
    assert found.notes == ()
    counts = {split: {"pictures": len(p), "captions": sum(map(len, p.values()))}
              for split, p in CAPTIONS.items()}  # fmt: skip
    assert {row.name: row.a for row in found.splits} == counts
    assert json.loads(json.dumps(found.to_json()))["both"] == 5


@pytest.mark.parametrize("block", [1, 2, 4096])
@pytest.mark.parametrize("scale", [1, 1e-30, 1e30])
def test_cosines_are_those_of_the_vectors(a, b, block, scale, monkeypatch):
    monkeypatch.setattr(compare, "_ROWS", block)
    keys = ["z.jpg", *KEYS[::-1]]
    values = (vectors(keys) + np.arange(6) / 4).astype(np.float32) * np.float32(scale)
    wide = replace(SPEC, dtype="float32")
    fill(b, keys[:3], values[:3], wide)
    fill(b, keys[3:], values[3:], wide)
    found = compare_caches(a, b)
    one, two = vectors(KEYS).astype(float), values[:0:-1].astype(float)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    known = (one * two).sum(axis=1) / norms
    assert found.cosine.minimum == pytest.approx(known.min(), abs=1e-6)
    assert found.cosine.median == pytest.approx(np.median(known), abs=1e-6)
    order = np.argsort(known)
    assert [key for key, _ in found.cosine.worst] == [KEYS[i] for i in order]
    assert [value for _, value in found.cosine.worst] == pytest.approx(known[order], abs=1e-6)
    assert (found.both, found.only_a, found.only_b) == (5, 0, 1)


def test_the_worst_five_are_named(tmp_path):
    keys = [f"{n}.jpg" for n in range(8)]
    angles = np.array([0.1, 0.8, 0.2, 0.9, 0.3, 0.7, 0.4, 0.5])
    values = np.zeros((8, 6), np.float32)
    values[:, 0], values[:, 1] = np.cos(angles), np.sin(angles)
    spec = replace(SPEC, dtype="float32")
    fill(tmp_path / "a", keys, values, spec)
    fill(tmp_path / "b", keys, np.eye(6, dtype=np.float32)[[0] * 8], spec)
    found = compare_caches(tmp_path / "a", tmp_path / "b").cosine
    assert [key for key, _ in found.worst] == ["3.jpg", "1.jpg", "5.jpg", "7.jpg", "6.jpg"]
    assert found.minimum == pytest.approx(np.cos(0.9), abs=1e-6)
    assert found.median == pytest.approx((np.cos(0.4) + np.cos(0.5)) / 2, abs=1e-6)


def test_zero_vectors(tmp_path):
    keys = ["a", "b", "c"]
    values = np.zeros((3, 6), np.float32)
    values[2] = 1
    fill(tmp_path / "a", keys, values)
    values[1] = 1
    fill(tmp_path / "b", keys, values)
    worst = dict(compare_caches(tmp_path / "a", tmp_path / "b").cosine.worst)
    assert worst == pytest.approx({"a": 1, "b": 0, "c": 1}, abs=1e-6)


def test_specs_are_compared_field_by_field(a, b):
    other = replace(
        SPEC,
        transform=replace(SPEC.transform, crop=30),
        pooling="maximum",
        precision="bfloat16",
        versions={"torch": "2.7", "numpy": "2"},
    )
    fill(b, KEYS, vectors(KEYS), other)
    found = compare_caches(a, b)
    assert {(row.name, row.a, row.b) for row in found.meaning if not row.same} == {
        ("transform.crop", 32, 30),
        ("pooling", "global average", "maximum"),
    }
    assert {(row.name, row.a, row.b) for row in found.detail if not row.same} == {
        ("precision", "float32", "bfloat16"),
        ("versions.torch", "2.6", "2.7"),
        ("versions.numpy", None, "2"),
    }
    names = {row.name.split(".")[0] for row in (*found.meaning, *found.detail)}
    assert names == set(SPEC.__dataclass_fields__)
    assert "origin" in {row.name for row in found.meaning}
    assert found.cosine.minimum == pytest.approx(1, abs=1e-6)  # another name, the same numbers


def test_changed_images_are_named(a, b):
    fill(b, KEYS[1:], vectors(KEYS[1:]), images=[KEYS[1], "new", KEYS[3], "newer"])
    found = compare_caches(a, b)
    assert found.changed == (KEYS[2], KEYS[4])
    assert (found.both, found.only_a, found.only_b) == (4, 1, 0)


def test_digests_that_are_not_known_are_not_compared(a, b):
    imported = replace(SPEC, transform=None, origin=IMPORTED_UNSEEN)
    with write_cache(b) as writer:
        writer.append(imported, KEYS, np.zeros((5, 32), np.uint8), vectors(KEYS), {})
    found = compare_caches(a, b)
    assert found.changed == ()
    assert found.notes == ("the digests of the images of one are not known",)
    assert found.cosine.minimum == pytest.approx(1, abs=1e-6)


def test_other_dimensions_have_no_cosine(a, b):
    fill(b, KEYS, np.ones((5, 4), np.float16), replace(SPEC, dimension=4))
    found = compare_caches(a, b)
    assert found.cosine is None
    assert found.notes == ("vectors of 6 and 4 numbers have no cosine",)
    assert (found.both, found.changed) == (5, ())


def test_caches_with_nothing_in_common(a, b):
    with write_cache(b) as writer:
        put_text(writer, {"train": {"x.jpg": ("an elephant",)}})
    found = compare_caches(a, b)
    assert (found.both, found.only_a, found.only_b, found.cosine) == (0, 5, 0, None)
    assert found.notes == (f"{b}: holds no features",)
    assert not found.vocabulary.same
    assert {row.name: row.b for row in found.splits} == {
        "train": {"pictures": 1, "captions": 1},
        "val": None,
    }
    with write_cache(b) as writer:
        append(writer, ["x.jpg"])
    found = compare_caches(a, b)
    assert found.notes == ("no image has a vector in both",)
    assert (found.only_a, found.only_b) == (5, 1)


def test_a_vector_that_is_not_finite_is_named(a, b):
    fill(b, KEYS, vectors(KEYS))
    cache = Cache.open(b)
    shard = cache.shards[0]
    features = np.array(shard.features)
    features[2, 2] = np.nan
    object.__setattr__(shard, "features", features)
    with pytest.raises(
        CacheError, match=f"the vector of {KEYS[2]} is not finite; run `multispace ca"
    ):
        compare._unit(cache, KEYS, features)


def test_a_damaged_cache_is_refused(a, b):
    fill(b, KEYS, vectors(KEYS))
    (b / Cache.open(b).manifest.shards[0].file).unlink()
    with pytest.raises(DamagedFileError, match=str(b)):
        compare_caches(a, b)
