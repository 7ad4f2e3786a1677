import hashlib
import json
import os
import re
from dataclasses import replace

import pytest
import rfc8785
from support.rows import SPEC

from multispace.data.cache.format.listed_file import Entry
from multispace.data.cache.format.manifest import Manifest, write_manifest
from multispace.data.cache.format.manifest_reader import read_manifest
from multispace.data.cache.format.shard import ShardEntry
from multispace.errors import CacheError

DIGEST = "0123456789abcdef" * 4
KEYS = Entry("features/00000-01234567.txt", DIGEST, 30)
SHARD = ShardEntry("features/00000-01234567.h5", DIGEST, 4000, 3, KEYS, "float16")
OTHER = replace(SHARD, file="features/00001-01234567.h5", bytes=5000, rows=4, dtype="float32")
WHOLE = Manifest(
    spec=replace(SPEC, weights="là"),
    shards=(SHARD, OTHER),
    failures=Entry("failures-01234567.json", DIGEST, 70),
    vocabulary=Entry("vocabulary-01234567.json", DIGEST, 100),
    captions={"train": Entry("captions/train-01234567.h5", DIGEST, 10)},
)
HINT = "run `multispace cache repair .*`, or fetch the cache again"


def store(root, **change):
    """Write a manifest that is changed, and right in its digest all the same."""
    body = json.loads(WHOLE.to_bytes())
    body.pop("digest")
    body = {**body, **change}
    digest = hashlib.sha256(rfc8785.dumps(body)).hexdigest()
    (root / "cache.json").write_bytes(rfc8785.dumps({**body, "digest": digest}))


def shard(**change):
    keys = {"file": KEYS.file, "sha256": DIGEST, "bytes": 30}
    held = {"file": SHARD.file, "sha256": DIGEST, "bytes": 4000, "rows": 3, "keys": keys}
    return [{**held, "dtype": "float16", **change}]


def keys(**change):
    return {"keys": {"file": KEYS.file, "sha256": DIGEST, "bytes": 30, **change}}


@pytest.mark.parametrize("manifest", [Manifest(), WHOLE])
def test_there_and_back(tmp_path, manifest):
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert [path.name for path in tmp_path.iterdir()] == ["cache.json"]


def test_it_says_what_it_lists(tmp_path):
    write_manifest(tmp_path, WHOLE)
    value = json.loads((tmp_path / "cache.json").read_bytes())
    assert (value["format"], value["version"]) == ("multispace-feature-cache", 2)
    assert value["fingerprint"] == SPEC.fingerprint
    others = {"file": OTHER.file, "bytes": 5000, "rows": 4, "dtype": "float32"}
    assert value["shards"] == shard() + shard(**others)
    assert value["failures"] == {"file": "failures-01234567.json", "sha256": DIGEST, "bytes": 70}
    assert WHOLE.rows == 7
    assert Manifest().rows == 0


def test_the_digest_is_that_of_the_canonical_json_without_it(tmp_path):
    write_manifest(tmp_path, WHOLE)
    content = (tmp_path / "cache.json").read_bytes()
    value = json.loads(content)
    assert content == rfc8785.dumps(value)
    digest = value.pop("digest")
    assert digest == hashlib.sha256(rfc8785.dumps(value)).hexdigest()


def test_an_entry_of_a_shard_is_short():
    """The manifest is written again with each shard, and so must not be long."""
    entry = replace(SHARD, bytes=9_000_000, rows=4096, keys=replace(KEYS, bytes=90_000))
    assert len(entry.canonical) < 310


def test_the_numbers_of_a_spec_stay_doubles(tmp_path):
    zero = replace(SPEC, transform=replace(SPEC.transform, mean=(0.0, -0.0, 1e-7)))
    write_manifest(tmp_path, Manifest(spec=zero))
    assert b'"mean":[0,0,1e-7]' in (tmp_path / "cache.json").read_bytes()
    read = read_manifest(tmp_path).spec
    assert all(type(number) is float for number in read.transform.mean)
    assert read.fingerprint == zero.fingerprint


def test_captions_are_added_or_replaced():
    new = Entry("captions/val-01234567.h5", DIGEST, 20)
    assert WHOLE.with_captions("val", new).captions == {**WHOLE.captions, "val": new}
    assert WHOLE.with_captions("train", new).captions == {"train": new}


def test_every_bit_that_is_flipped_is_found(tmp_path):
    write_manifest(tmp_path, WHOLE)
    path = tmp_path / "cache.json"
    content = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for position, byte in enumerate(content):
            os.pwrite(file.fileno(), bytes([byte ^ 1 << position % 8]), position)
            with pytest.raises(CacheError) as caught:
                read_manifest(tmp_path)
            assert str(caught.value).startswith(f"{path}: ")
            assert str(caught.value).isprintable()
            os.pwrite(file.fileno(), bytes([byte]), position)
    assert read_manifest(tmp_path) == WHOLE


def test_a_cut_is_found(tmp_path):
    path = tmp_path / "cache.json"
    content = WHOLE.to_bytes()
    for length in range(0, len(content), 113):
        path.write_bytes(content[:length])
        with pytest.raises(CacheError, match=f"not JSON .*; {HINT}"):
            read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b",", b", "),
        (b"{", b"{\n"),
        (b'"rows":3', b'"rows":3.0'),
        (b'"rows":3', b'"rows":4'),
        (b'"rows":3', b'"rows":4,"rows":3'),
        ("là".encode(), b"l\\u00e0"),
        ("là".encode(), b"\\ud800"),
    ],
)
def test_another_spelling_is_found(tmp_path, old, new):
    path = tmp_path / "cache.json"
    content = WHOLE.to_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    with pytest.raises(CacheError, match=f"^{path}: "):
        read_manifest(tmp_path)


def test_what_follows_the_digest_is_found(tmp_path):
    (tmp_path / "cache.json").write_bytes(WHOLE.to_bytes() + b"\n")
    with pytest.raises(CacheError, match=f"its content does not match its digest; {HINT}"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "file",
    [
        "../00000-01234567.h5",
        "features/../../00000-01234567.h5",
        "/features/00000-01234567.h5",
        "//host/features/00000-01234567.h5",
        "file:///features/00000-01234567.h5",
        "features\\00000-01234567.h5",
        "features/00000-01234567.h5\n",
        "features/sub/00000-01234567.h5",
        "features/0-01234567.h5",
        "features/" + "\u0660" * 5 + "-01234567.h5",  # Arabic zeros
        "",
        None,
        3,
    ],
)
def test_a_shard_lies_in_its_folder(tmp_path, file):
    store(tmp_path, shards=shard(file=file))
    with pytest.raises(CacheError, match="is not where a cache keeps such a file"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not a feature cache"),
        ({"version": 3}, "version 3, this software reads 1 and 2; update this software"),
        ({"version": "1"}, "version '1'"),
        ({"version": True}, "failures must map keys to reasons"),
        ({"fingerprint": "0" * 64}, "does not match its digest"),
        ({"extra": 1}, "does not match its digest"),
        ({"shards": {}}, "shards and captions must be a list and an object"),
        ({"shards": None}, "shards and captions"),
        ({"shards": [[]]}, r"shards\[0\]: rows is None"),
        ({"shards": shard() * 2}, "a shard is listed twice"),
        ({"shards": shard(rows=0)}, r"shards\[0\]: rows is 0"),
        ({"shards": shard(rows=True)}, "rows is True"),
        ({"shards": shard(rows=3.5)}, "rows is 3.5"),
        ({"shards": shard(bytes=-1)}, "-1 is not a size in bytes"),
        ({"shards": shard(bytes="4000")}, "'4000' is not a size"),
        ({"shards": shard(sha256=DIGEST[:63])}, "is not a SHA-256 digest"),
        ({"shards": shard(sha256=DIGEST.upper())}, "is not a SHA-256 digest"),
        ({"shards": shard(sha256=None)}, "None is not a SHA-256 digest"),
        ({"shards": shard(sha256="f" * 64)}, "is not named by its digest"),
        ({"shards": shard(extra=1)}, "expected file, sha256 and bytes"),
        ({"shards": shard(dtype="float64")}, r"shards\[0\]: dtype is 'float64'"),
        ({"shards": shard(dtype=None)}, "dtype is None"),
        ({"shards": shard(keys=None)}, r"shards\[0\].keys: expected file, sha256 and bytes"),
        ({"shards": shard(**keys(file="keys.txt"))}, "'keys.txt' is not where a cache keeps"),
        ({"shards": shard(**keys(file="features/../a.txt"))}, "is not where a cache keeps"),
        ({"shards": shard(**keys(sha256="f" * 64))}, "is not named by its digest"),
        ({"shards": shard(**keys(bytes=0))}, "0 is not a size in bytes"),
        ({"spec": None}, "shards without a feature spec"),
        ({"spec": {}}, "feature spec: missing or unknown field"),
        ({"spec": []}, "feature spec is list"),
        ({"failures": []}, "does not match its digest"),
        ({"failures": {"a.jpg": 3}}, "failures: expected file, sha256 and bytes"),
        (
            {"failures": {"file": "../f-01234567.json", "sha256": DIGEST, "bytes": 1}},
            "'../f-01234567.json' is not where a cache keeps such a file",
        ),
        ({"vocabulary": "vocabulary.json"}, "vocabulary: expected file, sha256 and bytes"),
        (
            {"vocabulary": {"file": "../vocabulary.json", "sha256": DIGEST, "bytes": 1}},
            "'../vocabulary.json' is not where a cache keeps such a file",
        ),
        ({"captions": []}, "shards and captions must be a list and an object"),
        ({"captions": {"..": {}}}, "'..' is not a name for a split"),
        ({"captions": {"a/b": {}}}, "'a/b' is not a name for a split"),
        ({"captions": {"": {}}}, "'' is not a name for a split"),
        (
            {
                "captions": {
                    "val": {"file": "captions/train-01234567.h5", "sha256": DIGEST, "bytes": 1}
                }
            },
            "captions: 'captions/train-01234567.h5' is not where",
        ),
    ],
)
def test_what_no_cache_lists_is_refused(tmp_path, change, message):
    store(tmp_path, **change)
    with pytest.raises(CacheError, match=message) as caught:
        read_manifest(tmp_path)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'cache.json'}: ")
    assert text.isprintable()
    assert text.endswith("; update this software") or re.search(HINT, text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"null", "not a feature cache"),
        (b"[]", "not a feature cache"),
        (b"[" * 200_000, "not JSON"),
        (b'{"a":' * 200_000, "not JSON"),
        (b"1" * 5000, "not JSON"),
        (b'{"format": NaN}', "not JSON .NaN is not a number"),
        (b'{"format": -Infinity}', "not JSON .-Infinity is not a number"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path, content, message):
    (tmp_path / "cache.json").write_bytes(content)
    with pytest.raises(CacheError, match=message):
        read_manifest(tmp_path)


def test_numbers_beyond_all_measure_are_refused(tmp_path):
    text = WHOLE.to_bytes()
    assert b"0.25" in text
    (tmp_path / "cache.json").write_bytes(text.replace(b"0.25", b"1e999", 1))
    with pytest.raises(CacheError, match="expected finite numbers"):
        read_manifest(tmp_path)


def test_no_manifest(tmp_path):
    with pytest.raises(CacheError, match=f"not found; `multispace preprocess --cache {tmp_path}`"):
        read_manifest(tmp_path)
