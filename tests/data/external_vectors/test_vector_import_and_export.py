import hashlib
import io
import json
import os
import zipfile
from dataclasses import replace

import h5py
import numpy as np
import pytest
from support.rows import CAPTIONS, KEYS, SPEC, append, assert_whole, make_cache, put_text, vectors
from support.watching import Watcher

from multispace.data.cache.format.spec import EXTRACTED, IMPORTED, IMPORTED_UNSEEN
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.data.external_vectors.vector_export import export_features
from multispace.data.external_vectors.vector_import import Imported, ImportOptions, import_features
from multispace.data.maintenance.merge import merge_caches
from multispace.errors import CacheError, ImageError, MissingFeatureError, OptionError, ShardError

NAMES = [key.removesuffix(".jpg") for key in KEYS]


VALUES = vectors(KEYS)


def folder(tmp_path, values=VALUES):
    for name, vector in zip(NAMES, values, strict=True):
        path = tmp_path / "folder" / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, vector if name != "c" else vector[None])
    return tmp_path / "folder"


def names_file(tmp_path, names=NAMES):
    (tmp_path / "names.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return tmp_path / "names.txt"


def npy(tmp_path, values=VALUES):
    np.save(tmp_path / "matrix.npy", values)
    return tmp_path / "matrix.npy"


def fortran(tmp_path, values=VALUES):
    return npy(tmp_path, np.asfortranarray(values.astype(">f8")))


def npz(tmp_path, values=VALUES):
    np.savez_compressed(tmp_path / "matrix.npz", features=values)
    return tmp_path / "matrix.npz"


def hdf5(tmp_path, values=VALUES):
    with h5py.File(tmp_path / "vectors.h5", "w") as file:
        for name, vector in zip(NAMES, values, strict=True):
            whole = name == "c"
            file.create_dataset(name, data=vector[None] if whole else vector,
                                compression=None if whole else "gzip")  # fmt: skip
    return tmp_path / "vectors.h5"


def ask(tmp_path, source, **other):
    names = None
    if source.suffix in (".npy", ".npz"):
        names = other.pop("names", None) or names_file(tmp_path)
    given = {"architecture": "resnet152", "weights": "lab B's", "names": names,
             "extension": ".jpg", "into": tmp_path / "cache", **other}  # fmt: skip
    return ImportOptions(source=source, **given)


FORMS = [folder, npy, fortran, npz, hdf5]


def test_each_vector_is_counted(tmp_path):
    watch = Watcher()
    import_features(ask(tmp_path, npy(tmp_path), shard_size=2), watch)
    assert sum(watch.counted) == watch.total == len(KEYS)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_vectors_come_as_they_are(tmp_path, form, dtype):
    done = import_features(ask(tmp_path, form(tmp_path), dtype=dtype, shard_size=2))
    cache = Cache.open(tmp_path / "cache")
    features = cache.features(KEYS)
    np.testing.assert_array_equal(features, vectors(KEYS))
    assert features.dtype == dtype
    assert set(cache.rows) == set(KEYS)
    assert [len(shard.keys) for shard in cache.shards] == [2, 2, 1]
    assert not any(shard.image_sha256.any() for shard in cache.shards)
    assert done == Imported(str(tmp_path / "cache"), cache.spec.fingerprint, IMPORTED_UNSEEN,
                            6, dtype, 5, 0)  # fmt: skip
    json.dumps(done.to_json())


def test_rows_of_a_matrix_keep_their_order(tmp_path):
    order = [KEYS[n] for n in (3, 0, 4, 2, 1)]
    names = names_file(tmp_path, order)
    import_features(ask(tmp_path, npy(tmp_path, vectors(order)), names=names, extension=""))
    (shard,) = Cache.open(tmp_path / "cache").shards
    assert shard.keys == tuple(order)
    np.testing.assert_array_equal(shard.features, vectors(order))


def test_the_spec_says_what_is_stated_and_no_more(tmp_path):
    import_features(ask(tmp_path, npy(tmp_path)))
    spec = Cache.open(tmp_path / "cache").spec
    assert (spec.architecture, spec.weights, spec.weights_sha256) == (
        "resnet152", "lab B's", "unknown, named lab B's")  # fmt: skip
    assert spec.transform is None
    assert {spec.decode, spec.pooling, spec.precision} == {"unknown"}
    stored = json.loads((tmp_path / "cache" / "cache.json").read_bytes())["spec"]
    assert stored["origin"] == (
        "imported, provenance as stated by the user, images not seen: image_sha256 is zero"
    )
    assert stored["transform"] is None


def test_images_give_their_digests(tmp_path):
    for key in KEYS:
        (tmp_path / "images" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / key).write_bytes(key.encode())
    source = npy(tmp_path)
    done = import_features(ask(tmp_path, source, images=tmp_path / "images"))
    assert done.origin == IMPORTED == "imported, provenance as stated by the user"
    (shard,) = Cache.open(tmp_path / "cache").shards
    expected = {key: hashlib.sha256(key.encode()).digest() for key in KEYS}
    assert dict(zip(shard.keys, map(bytes, shard.image_sha256), strict=True)) == expected
    with pytest.raises(CacheError, match="origin: 'imported.*' and 'imported.*not seen"):
        import_features(ask(tmp_path, source))
    (tmp_path / "images" / "c.jpg").unlink()
    with pytest.raises(ImageError, match=r"images/c.jpg: no such file"):
        import_features(ask(tmp_path, source, images=tmp_path / "images", into=tmp_path / "other"))


def test_imported_vectors_are_never_mixed_with_extracted_ones(tmp_path):
    cache = make_cache(tmp_path / "extracted")
    spec = cache.spec
    same = {"architecture": spec.architecture, "weights": spec.weights,
            "weights_sha256": spec.weights_sha256, "pooling": spec.pooling}  # fmt: skip
    source = npy(tmp_path)
    import_features(ask(tmp_path, source, **same))
    with pytest.raises(CacheError, match=r"origin: 'extracted' and 'imported, .*; use another"):
        import_features(ask(tmp_path, source, into=tmp_path / "extracted", **same))
    with pytest.raises(CacheError, match="origin: 'extracted' and 'imported,"):
        merge_caches([tmp_path / "extracted", tmp_path / "cache"], tmp_path / "both")
    with (
        write_cache(tmp_path / "cache") as writer,
        pytest.raises(CacheError, match="origin: 'imported, .* and 'extracted'"),
    ):
        append(writer, ["x.jpg"])
    assert_whole(tmp_path / "extracted")


def test_an_origin_and_a_transform_belong_together():
    with pytest.raises(CacheError, match="known for 'extracted' and for no other"):
        replace(SPEC, origin=IMPORTED)
    with pytest.raises(CacheError, match="known for 'extracted' and for no other"):
        replace(SPEC, transform=None)
    with pytest.raises(CacheError, match="feature spec.origin is 'found', expected one of"):
        replace(SPEC, origin="found")
    assert "origin" not in SPEC.to_json()
    assert SPEC.origin == EXTRACTED


def test_weights_of_other_names_are_not_mixed(tmp_path):
    source = npy(tmp_path)
    import_features(ask(tmp_path, source))
    with pytest.raises(CacheError, match="weights_sha256: .*lab B's.* and .*lab C's"):
        import_features(ask(tmp_path, source, weights="lab C's"))


def test_the_same_import_again_completes_the_first(tmp_path):
    source = npy(tmp_path)
    asked = ask(tmp_path, source, shard_size=2)
    names_file(tmp_path, NAMES[:2])
    np.save(source, vectors(KEYS[:2]))
    import_features(asked)
    names_file(tmp_path)
    np.save(source, vectors(KEYS))
    done = import_features(asked)
    assert (done.added, done.already) == (3, 2)
    assert import_features(asked).added == 0
    np.testing.assert_array_equal(Cache.open(asked.into).features(KEYS), vectors(KEYS))
    np.save(source, vectors(KEYS)[::-1])
    with pytest.raises(CacheError, match=r"cache: a.jpg has another vector or image already"):
        import_features(asked)


def test_an_imported_cache_takes_captions(tmp_path):
    import_features(ask(tmp_path, npy(tmp_path)))
    with write_cache(tmp_path / "cache") as writer:
        put_text(writer)
    cache = Cache.open(tmp_path / "cache")
    for split, images in CAPTIONS.items():
        keys = cache.captions(split).keys
        np.testing.assert_array_equal(cache.features(keys), vectors(list(images)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_named(tmp_path, form, value):
    values = VALUES.copy()
    values[2, 3] = value
    source = form(tmp_path, values)
    with pytest.raises(CacheError, match=f"^{source}: the vector of c.jpg holds NaN or infinity"):
        import_features(ask(tmp_path, source))


def test_what_does_not_fit_the_storage_type_is_named(tmp_path):
    source = npy(tmp_path, vectors(KEYS).astype(np.float32) + 70000)
    with pytest.raises(ShardError, match=r"^a.jpg: its vector is not finite in float16; use --dt"):
        import_features(ask(tmp_path, source, dtype="float16"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (vectors(KEYS[:4]), "4 rows, and 5 names in .*names.txt"),
        (vectors(KEYS)[0], r"has shape \(6,\), expected \(N, D\)"),
        (vectors(KEYS)[:, :0], "has 0 numbers"),
        (vectors(KEYS)[:0], r"(has shape \(0, 6\)|cannot be read)"),
        (vectors(KEYS).astype(int), "is int64, expected float16, float32 or float64"),
        (vectors(KEYS).astype(complex), "is complex128"),
        (vectors(KEYS).astype(np.longdouble), "expected float16"),
        (np.zeros(5, [("a", "f4")]), "expected float16"),
    ],
)
@pytest.mark.parametrize("archive", [False, True])
def test_a_matrix_that_will_not_do_is_refused(tmp_path, values, message, archive):
    source = tmp_path / ("matrix.npz" if archive else "matrix.npy")
    (np.savez if archive else np.save)(source, values)
    with pytest.raises(CacheError, match=f"^{source}: .*{message}") as caught:
        import_features(ask(tmp_path, source))
    assert str(caught.value).isprintable()
    assert not (tmp_path / "cache").exists()


def test_pipes_are_refused_at_once(tmp_path):
    for name in ("matrix.npy", "vectors.h5"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(CacheError, match=f"{name}: not a plain file"):
            import_features(ask(tmp_path, tmp_path / name))
    (tmp_path / "images").mkdir()
    os.mkfifo(tmp_path / "images" / "a.npy")
    with pytest.raises(CacheError, match="images/a.npy: not a plain file"):
        import_features(ask(tmp_path, tmp_path / "images"))


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


@pytest.mark.parametrize("save", [np.save, np.savez])
def test_nothing_is_unpickled(tmp_path, save):
    source = tmp_path / ("matrix.npy" if save is np.save else "matrix.npz")
    save(source, np.array([Evil()] * 5, dtype=object), allow_pickle=True)
    with pytest.raises(CacheError, match=f"^{source}: "):
        import_features(ask(tmp_path, source))
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "images" / "a.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    with pytest.raises(CacheError, match=r"^.*images/a.npy: "):
        import_features(ask(tmp_path, tmp_path / "images"))


def header(shape):
    memory = io.BytesIO()
    fields = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(memory, fields)
    return memory.getvalue()


def test_a_size_is_checked_before_it_is_read(tmp_path):
    huge = header((5, 1 << 19)) + bytes(100)
    (tmp_path / "matrix.npy").write_bytes(huge)
    with pytest.raises(CacheError, match=r"matrix.npy: holds \d+ bytes, its shape .* needs 10485"):
        import_features(ask(tmp_path, tmp_path / "matrix.npy"))
    with zipfile.ZipFile(tmp_path / "matrix.npz", "w") as archive:
        archive.writestr("x.npy", huge)
    with pytest.raises(CacheError, match=r"matrix.npz: x holds \d+ bytes, its shape needs 10485"):
        import_features(ask(tmp_path, tmp_path / "matrix.npz"))


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_cut_is_refused(tmp_path, form):
    source = form(tmp_path)
    path = source / "d.npy" if source.is_dir() else source
    whole = path.read_bytes()
    for length in (0, 3, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CacheError, match=f"^{path}") as caught:
            import_features(ask(tmp_path, source, into=tmp_path / f"cache-{length}"))
        assert str(caught.value).isprintable()


def test_an_archive_of_two_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "two.npz", a=vectors(KEYS), b=vectors(KEYS))
    with pytest.raises(
        CacheError, match=r"two.npz: holds 2 arrays that may be the features: a, b; name"
    ):
        import_features(ask(tmp_path, tmp_path / "two.npz"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b", "a", "d", "e"], "key a.jpg occurs twice"),
        (["a", "../b", "c", "d", "e"], "leaves the image folder"),
        (["a", "/b", "c", "d", "e"], "leaves the image folder"),
    ],
)
def test_names_that_will_not_do_are_refused(tmp_path, names, message):
    asked = ask(tmp_path, npy(tmp_path))
    names_file(tmp_path, names)
    with pytest.raises(CacheError, match=f"^{tmp_path}/names.txt: .*{message}"):
        import_features(asked)
    asked.names.write_bytes(b"\xff\n" * 5)
    with pytest.raises(CacheError, match="names.txt: cannot be read"):
        import_features(asked)


def test_lines_may_end_as_on_windows(tmp_path):
    asked = ask(tmp_path, npy(tmp_path))
    asked.names.write_bytes("\r\n".join(NAMES).encode())
    import_features(asked)
    assert set(Cache.open(asked.into).rows) == set(KEYS)


def test_a_folder_names_the_file_that_will_not_do(tmp_path):
    source = folder(tmp_path)
    np.save(source / "d.npy", np.zeros((36, 6), np.float32))
    with pytest.raises(CacheError, match=rf"^{source}/d.npy: has shape \(36, 6\), expected \(D,\)"):
        import_features(ask(tmp_path, source))
    np.save(source / "d.npy", np.zeros(7, np.float32))
    with pytest.raises(CacheError, match=r"the vector of d.jpg has 7 numbers, the first one 6"):
        import_features(ask(tmp_path, source, into=tmp_path / "other"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CacheError, match="empty: holds no vectors; expected a folder of .np"):
        import_features(ask(tmp_path, tmp_path / "empty"))


def hdf5_with(tmp_path, fault):
    source = hdf5(tmp_path)
    with h5py.File(source, "a") as file:
        del file["d"]
        if fault == "soft":
            file["d"] = h5py.SoftLink("/a")
        elif fault == "external":
            file["d"] = h5py.ExternalLink("other.h5", "/a")
        elif fault == "stored elsewhere":
            file.create_dataset("d", (6,), "f4", external=[(str(tmp_path / "raw"), 0, 24)])
        elif fault == "virtual":
            layout = h5py.VirtualLayout((6,), "f4")
            layout[:] = h5py.VirtualSource(source, "e", (6,))
            file.create_virtual_dataset("d", layout)
        elif fault == "not written":
            file.create_dataset("d", (6,), "f4")
        elif fault == "chunk not written":
            file.create_dataset("d", (6,), "f4", chunks=(3,))[:3] = 1
        elif fault == "huge":
            file.create_dataset("d", (1 << 40,), "f4", chunks=(1 << 20,))
        elif fault == "huge chunk":
            file.create_dataset("d", (6,), "f4", chunks=(1 << 26,), maxshape=(None,))
        elif fault == "text":
            file.create_dataset("d", data=["six"])
        elif fault == "whole numbers":
            file.create_dataset("d", data=np.arange(6))
        elif fault == "regions":
            file.create_dataset("d", data=np.zeros((36, 6), np.float32))
        elif fault == "scalar":
            file.create_dataset("d", data=np.float32(1))
        elif fault == "ring":
            file["d"] = file["/"]
    return source


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("soft", ": d is a soft or external link"),
        ("external", ": d is a soft or external link"),
        ("stored elsewhere", "/d: the dataset is not stored contiguously or in chunks inside"),
        ("virtual", "/d: the dataset is not stored contiguously or in chunks inside"),
        ("not written", "/d: the dataset declares more than the file holds"),
        ("chunk not written", "/d: the dataset is not all there"),
        ("huge", "/d: has 1099511627776 numbers, expected 1 to"),
        ("huge chunk", "/d: the dataset has chunks of 268435456 bytes"),
        ("text", "/d: is object, expected float16"),
        ("whole numbers", "/d: is int64, expected float16"),
        (
            "regions",
            r"/d: has shape \(36, 6\), expected \(D,\), .*; give --mean-over",
        ),
        ("scalar", r"/d: has shape \(\), expected"),
        ("ring", ": groups are nested deeper than 32"),
    ],
)
def test_hdf5_that_is_not_plain_is_refused(tmp_path, fault, message):
    source = hdf5_with(tmp_path, fault)
    with pytest.raises(CacheError, match=f"^{source}{message}"):
        import_features(ask(tmp_path, source))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"source": "x.txt", "names": None},
            "x.txt: expected a folder of .npy or .npz",
        ),
        ({"names": None}, "matrix.npy: give --names FILE, one name per line"),
        ({"source": "x.h5"}, "x.h5: no such file"),
        ({"source": "x.txt"}, "--names .*: it belongs to one file .*, and to no other source"),
        ({"shard_size": 0}, "--shard-size 0"),
        ({"weights_sha256": "ABC"}, "--weights-sha256 ABC: expected 64 hexadecimal digits"),
        ({"images": "none"}, "--images .*none: not a folder"),
        ({"dtype": "int8"}, "--dtype int8: use one of float16, float32"),
        ({"architecture": "a\nb"}, "feature spec.architecture is"),
    ],
)
def test_options_that_will_not_do_are_refused(tmp_path, change, message):
    source = npy(tmp_path)
    paths = {k: tmp_path / v for k, v in change.items() if k in ("source", "images")}
    asked = {"source": source, "names": names_file(tmp_path), "into": tmp_path / "c",
             "architecture": "x", "weights": "y", **change, **paths}  # fmt: skip
    with pytest.raises((CacheError, OptionError), match=message):
        import_features(ImportOptions(**asked))
    assert not (tmp_path / "c").exists()


def test_export_and_import_are_inverse(tmp_path):
    cache = make_cache(tmp_path / "whole")
    out, names = tmp_path / "out.npy", tmp_path / "out.txt"
    done = export_features(tmp_path / "whole", out, names)
    matrix = np.load(out, allow_pickle=False)
    np.testing.assert_array_equal(matrix, vectors(KEYS))
    assert matrix.dtype == np.float16
    assert names.read_text(encoding="utf-8") == "".join(f"{key}\n" for key in KEYS)
    assert (done.rows, done.dimension, done.dtype) == (5, 6, "float16")
    assert done.fingerprint == cache.spec.fingerprint
    json.dumps(done.to_json())
    import_features(ask(tmp_path, out, names=names, extension="", dtype="float16"))
    again = Cache.open(tmp_path / "cache")
    np.testing.assert_array_equal(again.features(KEYS), vectors(KEYS))
    export_features(tmp_path / "cache", tmp_path / "2.npy", tmp_path / "2.txt")
    assert (tmp_path / "2.npy").read_bytes() == out.read_bytes()


def test_a_split_is_exported_in_its_own_order(tmp_path, monkeypatch):
    monkeypatch.setattr("multispace.data.external_vectors.vector_export.BLOCK", 2)
    with write_cache(tmp_path / "whole") as writer:
        put_text(writer)
        append(writer, KEYS[::-1])
    out, names = tmp_path / "out.npy", tmp_path / "out.txt"
    export_features(tmp_path / "whole", out, names, split="train")
    assert names.read_text(encoding="utf-8").splitlines() == list(CAPTIONS["train"])
    np.testing.assert_array_equal(np.load(out), vectors(list(CAPTIONS["train"])))


def test_an_export_is_whole_or_not_there(tmp_path, monkeypatch):
    make_cache(tmp_path / "part", KEYS[:4])
    out, names = tmp_path / "out.npy", tmp_path / "out.txt"
    with pytest.raises(MissingFeatureError, match=r"1 images .* the first is e.jpg"):
        export_features(tmp_path / "part", out, names, split="val")
    make_cache(tmp_path / "none", [])
    with pytest.raises(CacheError, match="holds no features"):
        export_features(tmp_path / "none", out, names)
    for path in (tmp_path / "out.bin", names):
        with pytest.raises(CacheError, match=f"--out {path}: not a .npy file"):
            export_features(tmp_path / "part", path, names)
    assert not list(tmp_path.glob("out*"))
    real = Cache.features

    def break_off(cache, keys):
        if list(keys) == KEYS[2:4]:
            raise OSError("no more")
        return real(cache, keys)

    monkeypatch.setattr("multispace.data.external_vectors.vector_export.BLOCK", 2)
    monkeypatch.setattr(Cache, "features", break_off)
    with pytest.raises(OSError, match="no more"):
        export_features(tmp_path / "part", out, names)
    assert not out.exists()
    assert not list(tmp_path.glob(".partial-*"))
