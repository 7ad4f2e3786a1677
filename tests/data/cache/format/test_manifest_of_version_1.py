import hashlib
import json
import os
import re

import pytest
from support.rows import SPEC

from multispace.data.cache.format.listed_file import Entry
from multispace.data.cache.format.manifest import Manifest, write_manifest
from multispace.data.cache.format.manifest_reader import read_manifest
from multispace.data.cache.format.shard import ShardEntry
from multispace.data.files import json_bytes
from multispace.errors import CacheError

DIGEST = "0123456789abcdef" * 4
SHARD = ShardEntry("features/00000-01234567.h5", DIGEST, 4000, 3)
WHOLE = Manifest(
    spec=SPEC,
    shards=(SHARD, ShardEntry("features/00001-01234567.h5", DIGEST, 5000, 4)),
    version=1,
    failures_1={"z.jpg": "empty file", "é.jpg": "no such file"},
    vocabulary=Entry("vocabulary.json", DIGEST, 100),
    captions={"train": Entry("captions/train.h5", DIGEST, 10)},
)
HINT = "run `multispace cache repair .*`, or fetch the cache again"


def store(root, **change):
    """Write a manifest that is changed, and right in its digest all the same."""
    body = json.loads(WHOLE.to_bytes())
    body.pop("digest")
    body = {**body, **change}
    digest = hashlib.sha256(json_bytes(body)).hexdigest()
    (root / "cache.json").write_bytes(json_bytes({**body, "digest": digest}))


def shard(**change):
    return [{"file": SHARD.file, "sha256": DIGEST, "bytes": 4000, "rows": 3, **change}]


@pytest.mark.parametrize("manifest", [Manifest(version=1), WHOLE])
def test_there_and_back(tmp_path, manifest):
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert [path.name for path in tmp_path.iterdir()] == ["cache.json"]


def test_it_says_what_it_lists(tmp_path):
    write_manifest(tmp_path, WHOLE)
    value = json.loads((tmp_path / "cache.json").read_bytes())
    assert (value["format"], value["version"]) == ("multispace-feature-cache", 1)
    assert value["fingerprint"] == SPEC.fingerprint
    assert value["shards"] == [
        {"file": f"features/0000{n}-01234567.h5", "sha256": DIGEST, "bytes": b, "rows": r}
        for n, b, r in ((0, 4000, 3), (1, 5000, 4))
    ]
    assert WHOLE.rows == 7


def test_the_digest_is_that_of_the_file_without_it(tmp_path):
    write_manifest(tmp_path, WHOLE)
    text = (tmp_path / "cache.json").read_bytes()
    before, _, after = text.partition(b',\n "digest": "')
    assert after == hashlib.sha256(before + b"\n}\n").hexdigest().encode() + b'"\n}\n'


def test_the_order_of_failures_and_splits_does_not_matter(tmp_path):
    other = Manifest(version=1, failures_1=dict(reversed(WHOLE.failures_1.items())))
    assert other.to_bytes() == Manifest(version=1, failures_1=WHOLE.failures_1).to_bytes()


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
        (b"\n ", b"\r\n "),
        (b"{\n", b"{\n\n"),
        (b'"rows": 3', b'"rows": 3.0'),
        (b'"rows": 3', b'"rows": 4'),
        (b'"rows": 3', b'"rows": 4, "rows": 3'),
        ("é.jpg".encode(), b"\\u00e9.jpg"),
        (b"z.jpg", b"\\ud800"),
        (b"empty file", b"\\udfff"),
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
        ({"version": True}, "does not match its digest"),
        ({"fingerprint": "0" * 64}, "does not match its digest"),
        ({"extra": 1}, "does not match its digest"),
        ({"shards": {}}, "shards and captions must be a list and an object"),
        ({"shards": None}, "shards and captions"),
        ({"shards": [[]]}, r"shards\[0\]: rows is None"),
        ({"shards": shard() * 2}, "a shard is listed twice"),
        ({"shards": shard(rows=0)}, r"shards\[0\]: rows is 0"),
        ({"shards": shard(rows=True)}, "rows is True"),
        ({"shards": shard(rows=3.0)}, "rows is 3.0"),
        ({"shards": shard(bytes=-1)}, "-1 is not a size in bytes"),
        ({"shards": shard(bytes="4000")}, "'4000' is not a size"),
        ({"shards": shard(sha256=DIGEST[:63])}, "is not a SHA-256 digest"),
        ({"shards": shard(sha256=DIGEST.upper())}, "is not a SHA-256 digest"),
        ({"shards": shard(sha256=None)}, "None is not a SHA-256 digest"),
        ({"shards": shard(sha256="f" * 64)}, "is not named by its digest"),
        ({"shards": shard(extra=1)}, "expected file, sha256 and bytes"),
        ({"spec": None}, "shards without a feature spec"),
        ({"spec": {}}, "feature spec: missing or unknown field"),
        ({"spec": []}, "feature spec is list"),
        ({"failures": []}, "failures must map keys to reasons"),
        ({"failures": {"a.jpg": 3}}, "failures must map keys to reasons"),
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
            {"captions": {"val": {"file": "captions/train.h5", "sha256": DIGEST, "bytes": 1}}},
            "captions: 'captions/train.h5' is not where",
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


def test_numbers_beyond_all_measure_are_refused(tmp_path):
    text = WHOLE.to_bytes()
    assert b"0.25" in text
    (tmp_path / "cache.json").write_bytes(text.replace(b"0.25", b"1e999", 1))
    with pytest.raises(CacheError, match="expected finite numbers"):
        read_manifest(tmp_path)
