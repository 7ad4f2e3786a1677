import hashlib
import json
import os
import struct
from dataclasses import replace

import h5py
import numpy as np
import pytest
from support.rows import KEYS, SPEC, digests, vectors

from multispace.data.cache.format import shard_layout
from multispace.data.cache.format.keys import MAX_KEY_BYTES
from multispace.data.cache.format.listed_file import describe
from multispace.data.cache.format.shard import (
    ShardEntry,
    open_shard,
    write_shard,
)
from multispace.data.cache.format.shard import read_shard as read_listed
from multispace.errors import DamagedFileError, ShardError

SPEC32 = replace(SPEC, dtype="float32")


def read_shard(path):
    return read_listed(path.parent, describe(path.parent, path))


def write(root, number=0, spec=SPEC, keys=KEYS, features=None):
    values = vectors(keys) if features is None else features
    return write_shard(root / "features", number, spec, keys, digests(keys), values)


@pytest.mark.parametrize("spec", [SPEC, SPEC32])
def test_a_shard_is_plain_to_any_hdf5_reader(tmp_path, spec):
    entry = write(tmp_path, spec=spec)
    with h5py.File(tmp_path / entry.file) as file:
        assert set(file) == {"features", "key", "image_sha256"}
        for dataset in file.values():
            plan = dataset.id.get_create_plist()
            assert plan.get_layout() == h5py.h5d.CONTIGUOUS
            assert plan.get_nfilters() == plan.get_external_count() == 0
            assert dataset.compression is None
        assert file["features"].dtype == np.dtype(spec.dtype)
        assert file["image_sha256"].dtype == np.uint8
        text = h5py.check_string_dtype(file["key"].dtype)
        assert (text.encoding, text.length) == ("utf-8", max(len(k.encode()) for k in KEYS))
        assert [key.decode() for key in file["key"][()]] == KEYS
        np.testing.assert_array_equal(file["image_sha256"][()], digests(KEYS))
        np.testing.assert_array_equal(file["features"][()], vectors(KEYS).astype(spec.dtype))
        assert set(file.attrs) == {"format_version", "spec", "fingerprint", "package_version"}
        assert file.attrs["format_version"] == 2
        assert file.attrs["fingerprint"].decode() == spec.fingerprint
        assert json.loads(file.attrs["spec"]) == json.loads(json.dumps(spec.to_json()))


def test_rows_lie_where_the_file_says(tmp_path):
    entry = write(tmp_path)
    with h5py.File(tmp_path / entry.file) as file:
        offset = file["features"].id.get_offset()
    content = (tmp_path / entry.file).read_bytes()
    values = vectors(KEYS)
    assert content[offset : offset + values.nbytes] == values.tobytes()


@pytest.mark.parametrize("spec", [SPEC, SPEC32])
def test_what_was_written_is_read(tmp_path, spec):
    shard = open_shard(tmp_path, write(tmp_path, spec=spec))
    assert shard.keys == tuple(KEYS)
    assert shard.spec == spec
    assert shard.features.dtype == np.dtype(spec.dtype)
    np.testing.assert_array_equal(shard.features, vectors(KEYS))
    np.testing.assert_array_equal(shard.image_sha256, digests(KEYS))


def test_the_name_and_the_entry_carry_order_and_digest(tmp_path):
    entry = write(tmp_path, number=12)
    content = (tmp_path / entry.file).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    name = f"features/00012-{digest[:8]}.h5"
    assert entry == ShardEntry(name, digest, len(content), len(KEYS), None, "float16")


def test_the_same_rows_give_the_same_bytes(tmp_path):
    one, two = write(tmp_path / "one"), write(tmp_path / "two")
    assert one == two
    assert (tmp_path / "one" / one.file).read_bytes() == (tmp_path / "two" / two.file).read_bytes()
    values = vectors(KEYS)
    values[-1, -1] = np.nextafter(values[-1, -1], np.float16(9))
    assert write(tmp_path / "two", features=values).sha256 != one.sha256


@pytest.mark.parametrize("value", [np.nan, np.inf, 65520.0])  # rounds to float16's infinity
def test_a_vector_that_cannot_be_stored_is_named(tmp_path, value, recwarn):
    values = vectors(KEYS).astype(np.float32)
    values[2, 3] = value
    with pytest.raises(ShardError, match=r"^c.jpg: its vector is not finite in float16; use --dt"):
        write(tmp_path, features=values)
    assert not (tmp_path / "features").exists()
    assert not recwarn.list
    if np.isfinite(value):
        shard = open_shard(tmp_path, write(tmp_path, spec=SPEC32, features=values))
        assert shard.features[2][3] == value


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["a.jpg", "b.jpg", "a.jpg"], "key a.jpg occurs twice"),
        (["../a.jpg"], "leaves the image folder"),
        (["a\n.jpg"], "holds a control character"),
        (["a" * MAX_KEY_BYTES, "é" * (MAX_KEY_BYTES // 2) + "e"], "4097 bytes, at most 4096"),
        ([], "0 keys"),
    ],
)
def test_keys_that_could_not_be_read_back_are_not_written(tmp_path, keys, message):
    with pytest.raises(ShardError, match=message):
        write(tmp_path, keys=keys)
    assert not (tmp_path / "features").exists()


def test_the_longest_key_is_read_back(tmp_path):
    keys = ["é" * (MAX_KEY_BYTES // 2), "a"]
    assert open_shard(tmp_path, write(tmp_path, keys=keys)).keys == tuple(keys)


def test_rows_that_do_not_belong_together_are_not_written(tmp_path):
    for features in (vectors(KEYS[1:]), vectors(KEYS)[:, 1:], vectors(KEYS)[0]):
        with pytest.raises(ShardError, match="do not belong together"):
            write(tmp_path, features=features)
    assert not (tmp_path / "features").exists()


def test_other_bytes_never_reach_the_hdf5_library(tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("opened")

    monkeypatch.setattr(shard_layout, "_known", {})  # of shards that other tests opened
    entry = write(tmp_path, keys=KEYS[:1])
    path = tmp_path / entry.file
    content = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(h5py, "File", never)
        for length in range(0, len(content), 61):
            path.write_bytes(content[:length])
            with pytest.raises(DamagedFileError, match=f": {length} bytes, the manifest says"):
                open_shard(tmp_path, entry)
        path.write_bytes(content)
        with path.open("r+b", buffering=0) as file:
            for position, byte in enumerate(content):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << position % 8]), position)
                with pytest.raises(DamagedFileError, match=": digest "):
                    open_shard(tmp_path, entry)
                os.pwrite(file.fileno(), bytes([byte]), position)
        with pytest.raises(AssertionError, match="opened"):
            open_shard(tmp_path, entry)
    assert open_shard(tmp_path, entry).keys == ("a.jpg",)


def test_a_shard_that_is_a_link_is_not_followed(tmp_path):
    entry = write(tmp_path)
    path = tmp_path / entry.file
    path.rename(tmp_path / "away.h5")
    path.symlink_to(tmp_path / "away.h5")
    with pytest.raises(DamagedFileError, match="is a symbolic link; links in a cache are not"):
        open_shard(tmp_path, entry)


def test_the_rows_are_those_of_the_manifest(tmp_path):
    entry = replace(write(tmp_path), rows=4)
    with pytest.raises(ShardError, match="5 rows, the manifest says 4; fetch the cache again"):
        open_shard(tmp_path, entry)


# What follows came with a right digest, but was not written here.


def foreign(path, **change):
    """Write a shard by hand; ``change`` replaces datasets and attributes, None leaves one out."""
    key = np.array([k.encode() for k in KEYS], h5py.string_dtype("utf-8", 10))
    parts = {
        "features": vectors(KEYS),
        "key": key,
        "image_sha256": digests(KEYS),
        "format_version": 1,
        "spec": np.bytes_(json.dumps(SPEC.to_json())),
        "fingerprint": np.bytes_(SPEC.fingerprint),
        **change,
    }
    with h5py.File(path, "w") as file:
        for name, value in parts.items():
            if value is None:
                continue
            if callable(value):
                value(file)
            elif name in ("format_version", "spec", "fingerprint"):
                file.attrs[name] = value
            else:
                file.create_dataset(name, data=value)
    return path


def test_a_shard_by_another_hand_is_read(tmp_path):
    shard = read_shard(foreign(tmp_path / "other.h5", more=lambda f: f.attrs.create("note", 3)))
    assert shard.keys == tuple(KEYS)
    np.testing.assert_array_equal(shard.features, vectors(KEYS))


def test_shards_of_one_layout_are_parsed_once(tmp_path, monkeypatch):
    entries = [
        write(tmp_path, 1, keys=["a.jpg", "b.jpg"]),
        write(tmp_path, 2, keys=["x.jpg", "y.jpg"]),
        write(tmp_path, 3, keys=["longer.jpg", "y.jpg"]),
        write(tmp_path, 4, spec=replace(SPEC, weights_sha256="1" * 64), keys=["x.jpg", "z.jpg"]),
    ]
    monkeypatch.setattr(shard_layout, "_known", {})
    parsed, real = [], h5py.File
    monkeypatch.setattr(h5py, "File", lambda *args: parsed.append(1) or real(*args))
    shards = [open_shard(tmp_path, entry) for entry in (*entries, entries[0])]
    # Each of the other layouts twice: as it is, and with zeros in its datasets.
    assert len(parsed) == 2 * 3 + 2
    assert [shard.keys for shard in shards[:3]] == [
        ("a.jpg", "b.jpg"), ("x.jpg", "y.jpg"), ("longer.jpg", "y.jpg"),
    ]  # fmt: skip
    assert shards[3].spec.weights_sha256 == "1" * 64
    for shard in shards:
        np.testing.assert_array_equal(shard.features, vectors(shard.keys))
        np.testing.assert_array_equal(shard.image_sha256, digests(shard.keys))


def test_a_dataset_over_the_structure_does_not_make_other_shards_look_alike(tmp_path, monkeypatch):
    """Of two such files the bytes outside the datasets can be equal, and the layouts differ."""
    monkeypatch.setattr(shard_layout, "_known", {})
    entry = write(tmp_path, 1)
    content = (tmp_path / entry.file).read_bytes()
    with h5py.File(tmp_path / entry.file) as file:
        place = file["features"].id.get_offset()
    address = struct.pack("<Q", place)
    assert content.count(address) == 1
    hiding = tmp_path / "features" / "hiding.h5"
    hiding.write_bytes(content.replace(address, struct.pack("<Q", 96)))
    assert read_shard(hiding).features.offset == 96
    assert not shard_layout._known
    np.testing.assert_array_equal(open_shard(tmp_path, entry).features, vectors(KEYS))
    assert list(shard_layout._known) == [entry.bytes]
    assert read_shard(hiding).features.offset == 96


def test_a_block_of_the_users_before_the_shard_moves_the_rows(tmp_path):
    plain = foreign(tmp_path / "plain.h5")
    path = tmp_path / "block.h5"
    with h5py.File(plain) as source, h5py.File(path, "w", userblock_size=512) as file:
        for name in source:
            source.copy(name, file)
        file.attrs.update(source.attrs)
    np.testing.assert_array_equal(read_shard(path).features, vectors(KEYS))


def chunked(file):
    file.create_dataset("features", data=vectors(KEYS), chunks=(1, 6))


def compressed(file):
    file.create_dataset("features", data=vectors(KEYS), compression="gzip")


def external_link(file):
    file["features"] = h5py.ExternalLink("other.h5", "/features")


def external_storage(file):
    file.create_dataset("features", (5, 6), "f2", external=[("/etc/hostname", 0, 60)])


def virtual(file):
    layout = h5py.VirtualLayout((5, 6), "f2")
    layout[:] = h5py.VirtualSource("other.h5", "features", (5, 6))
    file.create_virtual_dataset("features", layout)


def compact(file):
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((5, 6))
    h5py.h5d.create(file.id, b"features", h5py.h5t.IEEE_F16LE, space, plan)


def huge(file):
    file.create_dataset("features", (1 << 40, 6), "f2")


def bfloat16(file):
    kind = h5py.h5t.IEEE_F16LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_ebias(127)
    dataset = h5py.h5d.create(file.id, b"features", kind, h5py.h5s.create_simple((5, 6)))
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, vectors(KEYS))


def other_bias(file):
    kind = h5py.h5t.IEEE_F16LE.copy()
    kind.set_ebias(14)
    dataset = h5py.h5d.create(file.id, b"features", kind, h5py.h5s.create_simple((5, 6)))
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, vectors(KEYS))


def group(file):
    file.create_group("features")


def keys(*values, dtype=None):
    return np.array(values, dtype or h5py.string_dtype("utf-8", 5))


def spec_text(text):
    return {"spec": np.bytes_(text)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": external_link}, "features is a soft or external link"),
        ({"features": external_storage}, "features is not stored contiguously inside the file"),
        ({"features": virtual}, "features is not stored contiguously inside the file"),
        ({"features": chunked}, "features is not stored contiguously inside the file"),
        ({"features": compressed}, "features is not stored contiguously inside the file"),
        ({"features": compact}, "features is not stored contiguously inside the file"),
        ({"features": huge}, "features declares more than the file holds"),
        ({"features": group}, "features is not a dataset"),
        ({"features": bfloat16}, "features holds 60 bytes, its shape and type need 120"),
        ({"features": other_bias}, "features holds 60 bytes, its shape and type need 120"),
        ({"features": None}, r"holds \['image_sha256', 'key'\], expected"),
        ({"more": np.zeros(3)}, r"holds \['features', 'image_sha256', 'key', 'more'\]"),
        ({"features": vectors(KEYS).astype("f4")}, "features are not the float16"),
        ({"features": vectors(KEYS).astype(">f2")}, "features are not the float16"),
        ({"features": vectors(KEYS).view("i2")}, "features are not the float16"),
        ({"features": vectors(KEYS)[:, :5]}, r"features are \(5, 5\), not \(5, 6\)"),
        ({"features": vectors(KEYS)[:4]}, r"features are \(4, 6\), not \(5, 6\)"),
        ({"features": vectors(KEYS)[0]}, r"features are \(6,\), not \(5, 6\)"),
        ({"features": h5py.Empty("f2")}, "features"),
        ({"image_sha256": digests(KEYS)[:, :20]}, r"image_sha256 is uint8 \(5, 20\), not"),
        ({"image_sha256": digests(KEYS).view("i1")}, "image_sha256 is int8"),
        ({"key": keys(b"a", b"b", b"a", b"c", b"d")}, "key a occurs twice"),
        ({"key": keys(b"a", b"b", b"\xff", b"c", b"d")}, "key holds bytes that are not UTF-8"),
        ({"key": keys(b"a", b"b", b"", b"c", b"d")}, "names no file"),
        ({"key": keys(b"a", b"b", b"../a", b"c", b"d")}, "leaves the image folder"),
        ({"key": keys(b"a", b"b", b"c\n", b"c", b"d")}, "holds a control character"),
        ({"key": keys(*"abcde", dtype=h5py.string_dtype())}, "key holds references"),
        ({"key": np.arange(5)}, "key is int64, expected fixed-length UTF-8"),
        ({"key": keys(b"a")[:, None]}, r"key has shape \(1, 1\)"),
        ({"key": keys()}, "key"),
        ({"format_version": 3}, "format version 3, this software reads 1 and 2: update it"),
        ({"format_version": None}, "attribute format_version is missing"),
        ({"format_version": np.bytes_("1")}, "attribute format_version is"),
        ({"format_version": np.ones(3, int)}, "attribute format_version is"),
        ({"spec": None}, "attribute spec is missing"),
        ({"spec": json.dumps(SPEC.to_json())}, "attribute spec is object"),  # on the heap
        (spec_text("{"), "attribute spec is not JSON"),
        (spec_text("[" * 60_000), "recursion"),
        (spec_text(b"\xff"), "attribute spec holds bytes that are not UTF-8"),
        (spec_text("[]"), "attribute spec: feature spec is list"),
        (spec_text(json.dumps({**SPEC.to_json(), "dtype": "int8"})), "feature spec.dtype is"),
        (spec_text(json.dumps(replace(SPEC, pooling="x").to_json())), "fingerprint does not"),
        ({"fingerprint": np.bytes_("0" * 64)}, "the fingerprint does not belong to the spec"),
        ({"fingerprint": None}, "attribute fingerprint is missing"),
    ],
)
def test_what_the_format_does_not_allow_is_refused(tmp_path, change, message):
    foreign(tmp_path / "other.h5")
    path = foreign(tmp_path / "bad.h5", **change)
    with pytest.raises(ShardError, match=message) as caught:
        read_shard(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert text.endswith("; fetch the cache again, or run `multispace cache repair` on it")
    assert text.isprintable()


def test_a_soft_link_is_refused(tmp_path):
    path = foreign(tmp_path / "bad.h5")
    with h5py.File(path, "a") as file:
        del file["features"]
        file["features"] = h5py.SoftLink("/image_sha256")
    with pytest.raises(ShardError, match="features is a soft or external link"):
        read_shard(path)


def test_what_is_no_hdf5_is_refused(tmp_path):
    path = tmp_path / "bad.h5"
    path.write_bytes(b"not HDF5 at all")
    with pytest.raises(ShardError, match=f"{path}: not a readable HDF5 file .*; fetch the cache"):
        read_shard(path)


@pytest.mark.parametrize("rows", [6, 1 << 20, 1 << 40, (1 << 64) - 1])
@pytest.mark.parametrize("with_size", [False, True])
def test_a_shape_beyond_the_file_is_refused(tmp_path, rows, with_size):
    path = foreign(tmp_path / "bad.h5")
    content = path.read_bytes()
    shape = struct.pack("<QQ", 5, 6)  # as HDF5's dataspace message spells it
    assert content.count(shape) == 2  # its size now, and the most it may have
    content = content.replace(shape, struct.pack("<QQ", rows, 6))
    if with_size:
        size = struct.pack("<Q", vectors(KEYS).nbytes)  # as the layout message spells it
        assert content.count(size) == 1
        content = content.replace(size, struct.pack("<Q", rows * 12 % (1 << 64)))
    path.write_bytes(content)
    with pytest.raises(ShardError, match=f"{path}: .*; fetch the cache again"):
        read_shard(path)
