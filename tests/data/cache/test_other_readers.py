"""A cache read without this software, from docs/feature-cache.md alone.

The project's own code makes the caches here and says what is in them; nothing of it reads them.
"""

import hashlib
import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from support.rows import CAPTIONS, KEYS, SPEC, append, digests, put_text, vectors
from support.version_1 import to_version_1

from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.data.external_vectors.vector_import import ImportOptions, import_features
from multispace.model.backbone.resnet import load_backbone
from multispace.model.backbone.torchvision_compat import models

WIDE = replace(SPEC, dtype="float32", precision="bfloat16", weights="là-bas")


@pytest.fixture(params=[2, 1], ids=["version 2", "version 1"])
def version(request):
    return request.param


@pytest.fixture
def root(tmp_path, version):
    """Make a cache of shards of two storage types, with text and a failure."""
    with write_cache(tmp_path / "cache") as writer:
        put_text(writer)
        append(writer, KEYS[:3], {"gehört nicht.jpg": "empty file"})
        append(writer, KEYS[3:], spec=WIDE)
    return tmp_path / "cache" if version == 2 else to_version_1(tmp_path / "cache")


@pytest.fixture
def imported(tmp_path, version):
    np.save(tmp_path / "matrix.npy", vectors(KEYS))
    (tmp_path / "names.txt").write_text("\n".join(KEYS), encoding="utf-8")
    import_features(
        ImportOptions(
            source=tmp_path / "matrix.npy",
            names=tmp_path / "names.txt",
            into=tmp_path / "imported",
            architecture="resnet18",
            weights="lab É's",
        )
    )
    return tmp_path / "imported" if version == 2 else to_version_1(tmp_path / "imported")


@pytest.fixture(params=["root", "imported"])
def either(request, version):
    return request.getfixturevalue(request.param)


def manifest_of(root):
    return json.loads((root / "cache.json").read_bytes())


def shards_of(root):
    """Yield each listed shard's entry and path, checked for size and digest."""
    for entry in manifest_of(root)["shards"]:
        content = (root / entry["file"]).read_bytes()
        assert len(content) == entry["bytes"]
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert entry["file"].endswith(f"-{entry['sha256'][:8]}.h5")
        yield entry, root / entry["file"]


def digest_of(value, version):
    """Return the SHA-256 of JSON, canonical in version 2, and in version 1 with ASCII escapes.

    The texts and numbers here are such that sorted keys and no spaces make JSON canonical.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=version == 1)
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint_of(spec, version):
    """Follow the section on the spec."""
    meaning = {name: value for name, value in spec.items()
               if name not in ("weights", "dtype", "precision", "versions")}  # fmt: skip
    return digest_of(meaning, version)


def check(entry, keys, image_sha256, features, attributes, expected):
    """Hold what a reader found in a shard against what was put in."""
    assert [key.decode("utf-8") for key in keys] == expected
    assert entry["rows"] == len(expected)
    spec = json.loads(attributes["spec"])
    assert features.dtype == spec["dtype"]
    assert features.shape == (entry["rows"], spec["dimension"])
    np.testing.assert_array_equal(features, vectors(expected))
    assert image_sha256.dtype == np.uint8
    zero = "image_sha256 is zero" in spec.get("origin", "extracted")
    np.testing.assert_array_equal(image_sha256, digests(expected) * (not zero))
    assert set(attributes) == {"format_version", "spec", "fingerprint", "package_version"}
    version = attributes["format_version"]
    assert version == 1 or "dtype" in entry
    assert attributes["fingerprint"].decode("ascii") == fingerprint_of(spec, version)
    assert entry.get("dtype", spec["dtype"]) == spec["dtype"]


def parts(root):
    """Return the keys of each shard of a cache that a fixture made."""
    return [KEYS[:3], KEYS[3:]] if root.name == "cache" else [KEYS]


@pytest.mark.parametrize("reader", ["h5py", "pyfive"])
def test_shards_are_read_by_hdf5_libraries(either, reader):
    library = pytest.importorskip(reader, reason=f"{reader} is not installed")
    for (entry, path), expected in zip(shards_of(either), parts(either), strict=True):
        with library.File(str(path)) as file:
            assert set(file) == {"features", "key", "image_sha256"}
            arrays = {name: file[name][...] for name in file}
            attributes = {name: file.attrs[name] for name in file.attrs}
        check(
            entry, arrays["key"], arrays["image_sha256"], arrays["features"], attributes, expected
        )


def test_rows_are_mapped_at_the_offset(either):
    manifest = manifest_of(either)
    found = {}
    for entry, path in shards_of(either):
        with h5py.File(path) as file:
            offset = file["features"].id.get_offset()
            spec, keys = json.loads(file.attrs["spec"]), file["key"][()]
        mapped = np.memmap(
            path,
            dtype=np.dtype(spec["dtype"]).newbyteorder("<"),
            mode="r",
            offset=offset,
            shape=(entry["rows"], spec["dimension"]),
        )
        found |= {key.decode("utf-8"): row for key, row in zip(keys, mapped, strict=True)}
        assert fingerprint_of(spec, manifest["version"]) == manifest["fingerprint"]
    assert len(found) == len(KEYS)
    cache = Cache.open(either)
    for key, row in found.items():
        np.testing.assert_array_equal(row, vectors([key])[0])
        np.testing.assert_array_equal(row, cache.features([key])[0])


def test_the_fingerprint_follows_from_the_spec(either):
    manifest = manifest_of(either)
    assert manifest["fingerprint"] == fingerprint_of(manifest["spec"], manifest["version"])
    spec = Cache.open(either).spec
    assert spec.has_fingerprint(manifest["fingerprint"])
    assert spec.fingerprint == fingerprint_of(manifest["spec"], 2)
    (first, *_) = shards_of(either)
    with h5py.File(first[1]) as file:
        assert json.loads(file.attrs["spec"]) == manifest["spec"]


def test_the_manifest_digest_follows_from_its_content(either, version):
    content = (either / "cache.json").read_bytes()
    body = json.loads(content)
    assert body["version"] == version
    if version == 1:
        check_text_of_version_1(content)
        return
    assert set(body) == {"format", "version", "fingerprint", "spec", "shards", "failures",
                         "vocabulary", "captions", "digest"}  # fmt: skip
    digest = body.pop("digest")
    assert digest == digest_of(body, 2)
    spelled = json.dumps(
        {**body, "digest": digest}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    assert content == spelled.encode()


def test_keys_and_failures_are_read_without_the_shards(either, version):
    body = manifest_of(either)
    if version == 1:
        lists, failures = [body["keys"]], body["failures"]
    else:
        lists, failures = [shard["keys"] for shard in body["shards"]], {}
        if body["failures"]:
            failures = json.loads((either / body["failures"]["file"]).read_bytes())
    keys = []
    for entry in lists:
        content = (either / entry["file"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (
            entry["bytes"],
            entry["sha256"],
        )
        keys.append(content.decode("utf-8").splitlines())
    assert [key for part in keys for key in part] == KEYS
    if version == 2:
        assert keys == parts(either)
        for shard in body["shards"]:
            assert shard["keys"]["file"].split("-")[0] == shard["file"].split("-")[0]
    assert failures == ({"gehört nicht.jpg": "empty file"} if either.name == "cache" else {})


def check_text_of_version_1(content):
    before, _, after = content.rpartition(b',\n "digest": ')
    digest = hashlib.sha256(before + b"\n}\n").hexdigest()
    assert after == f'"{digest}"\n}}\n'.encode()
    body = json.loads(content)
    assert list(body) == ["format", "version", "fingerprint", "spec", "shards", "failures",
                          "vocabulary", "captions", "keys", "digest"]  # fmt: skip
    assert body.pop("digest") == digest
    spelled = json.dumps(body, indent=1, ensure_ascii=False) + "\n"
    assert hashlib.sha256(spelled.encode("utf-8")).hexdigest() == digest


def test_the_digest_of_weights_follows_from_the_state():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = models.get_model("resnet18", weights=None).state_dict()
    digest = hashlib.sha256()
    lines = []
    for name in sorted(state):
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked"):
            array = state[name].numpy()
            lines.append(f"{name} torch.{array.dtype} {array.shape}")
            digest.update(f"{lines[-1]}\n".encode())
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes(order="C"))
    assert "bn1.weight torch.float32 (64,)" in lines  # the two examples of the document
    assert "conv1.weight torch.float32 (64, 3, 7, 7)" in lines
    backbone = load_backbone("resnet18", "random:0", device=torch.device("cpu"))
    assert digest.hexdigest() == backbone.weights_sha256


def test_captions_are_read_by_offsets(root):
    entry = manifest_of(root)["vocabulary"]
    vocabulary = json.loads((root / entry["file"]).read_bytes())
    meaning = {name: vocabulary[name] for name in ("words", "tokenizer")}
    assert vocabulary["digest"] == digest_of(meaning, vocabulary["version"])
    words = vocabulary["words"]
    assert words[:4] == ["<pad>", "<bos>", "<eos>", "<unk>"]
    for split, entry in manifest_of(root)["captions"].items():
        content = (root / entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        with h5py.File(root / entry["file"]) as file:
            held = {name: file[name][()] for name in file}
            assert file.attrs["split"].decode() == split
            assert file.attrs["vocabulary_digest"].decode() == vocabulary["digest"]
        said: dict[str, list[str]] = {}
        for m, image in enumerate(held["caption_picture"]):
            tokens = held["tokens"][held["offsets"][m] : held["offsets"][m + 1]]
            raw = held["text"][held["text_offsets"][m] : held["text_offsets"][m + 1]].tobytes()
            text = " ".join(words[token] for token in tokens)
            assert raw.decode("utf-8") == text  # of these captions, where each word is known
            said.setdefault(held["key"][image].decode("utf-8"), []).append(text)
        assert said == {key: list(texts) for key, texts in CAPTIONS[split].items()}
