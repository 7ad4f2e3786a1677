"""Feature files as other programs write them."""

import os
import random
import threading
from contextlib import suppress

import h5py
import numpy as np
import pytest

from multispace.data.cache.reader import Cache
from multispace.data.external_vectors import vector_shapes
from multispace.data.external_vectors.vector_files import open_vectors
from multispace.data.external_vectors.vector_import import ImportOptions, import_features
from multispace.data.external_vectors.vector_shapes import Pooling
from multispace.errors import CacheError

IDS = [42, 7, 391895, 5]
TEXTS = ["COCO_val2014_000000000042.jpg", "a.jpg", "é.jpg", "sub/b.jpg"]
VALUES = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
REGIONS = np.random.default_rng(1).normal(size=(4, 3, 6)).astype(np.float32)
MEANS = REGIONS.mean(1, np.float64)


def read(source, names=None, *, regions=False):
    """Return the names and vectors of a source."""
    with open_vectors(source, names, Pooling(regions)) as vectors:
        values = [np.array(vectors.read(number)) for number in range(len(vectors.names))]
        return list(vectors.names), np.stack(values)


def refused(source, names=None, *, regions=False):
    with pytest.raises(CacheError) as caught:
        read(source, names, regions=regions)
    line = str(caught.value)
    assert line.startswith(str(source))
    assert line.isprintable()
    return line


def npz(tmp_path, **arrays):
    np.savez(tmp_path / "features.npz", **arrays)
    return tmp_path / "features.npz"


def packed(tmp_path, **arrays):
    np.savez_compressed(tmp_path / "packed.npz", **arrays)
    return tmp_path / "packed.npz"


def hdf5(tmp_path, **arrays):
    with h5py.File(tmp_path / "features.h5", "w") as file:
        for name, array in arrays.items():
            if isinstance(array, np.ndarray) and array.dtype.kind == "U":
                array = array.astype(object)  # text of any length, as h5py writes it
            file[name] = array
    return tmp_path / "features.h5"


FORMS = [npz, packed, hdf5]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("ids", "names"),
    [
        (np.array(IDS), [str(n) for n in IDS]),
        (np.array(IDS, np.uint32)[:, None], [str(n) for n in IDS]),
        (np.array(TEXTS), TEXTS),
        (np.array([text.encode() for text in TEXTS]), TEXTS),
    ],
    ids=["int64", "column of uint32", "text", "UTF-8"],
)
def test_a_matrix_and_its_ids_lie_in_one_file(tmp_path, form, ids, names):
    found, values = read(form(tmp_path, features=VALUES, image_ids=ids))
    assert found == names
    np.testing.assert_array_equal(values, VALUES)


@pytest.mark.parametrize("form", FORMS)
def test_the_only_arrays_that_fit_are_taken_whatever_their_names(tmp_path, form):
    source = form(tmp_path, pool5=VALUES, coco=np.array(IDS), year=np.array([2014]))
    assert read(source)[0] == [str(n) for n in IDS]


@pytest.mark.parametrize("form", FORMS)
def test_of_several_arrays_those_with_the_usual_names_are_taken(tmp_path, form):
    count = np.full(4, 36)
    source = form(tmp_path, boxes=np.ones((4, 4)), features=VALUES, num_boxes=count, ids=IDS)
    found, values = read(source)
    assert found == [str(n) for n in IDS]
    np.testing.assert_array_equal(values, VALUES)
    line = refused(form(tmp_path, a=VALUES, b=VALUES, ids=IDS))
    assert "holds 2 arrays that may be the features: a, b; name one of them features" in line
    line = refused(form(tmp_path, features=VALUES, one=IDS, two=IDS))
    assert "holds 2 arrays that may be the names: one, two; name one of them ids" in line


@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_names_goes_before_the_ids_of_the_file(tmp_path, form):
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\n")
    found, values = read(form(tmp_path, features=VALUES, ids=IDS), tmp_path / "names.txt")
    assert found == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(values, VALUES)


@pytest.mark.parametrize("form", FORMS)
def test_a_matrix_without_names_is_refused_with_the_option(tmp_path, form):
    assert refused(form(tmp_path, features=VALUES)).endswith(
        "; give --names FILE, one name per line"
    )


def test_ids_that_need_pickle_are_refused(tmp_path):
    ids = np.array([{"id": 1}] * 4, dtype=object)
    np.savez(tmp_path / "x.npz", features=VALUES, ids=ids)
    line = refused(tmp_path / "x.npz")
    assert "ids holds Python objects, which only pickle can read; save it as text" in line


@pytest.mark.parametrize("shape", [(4, 6, 1, 1), (4, 1, 6, 1, 1), (4, 1, 6)])
@pytest.mark.parametrize("form", FORMS)
def test_axes_of_size_one_are_removed_from_a_matrix(tmp_path, form, shape):
    np.testing.assert_array_equal(
        read(form(tmp_path, features=VALUES.reshape(shape), ids=IDS))[1], VALUES
    )


@pytest.mark.parametrize("shape", [(6,), (6, 1, 1), (1, 6, 1, 1), (1, 6)])
def test_axes_of_size_one_are_removed_from_the_array_of_an_image(tmp_path, shape):
    (tmp_path / "images").mkdir()
    for name, vector in zip(IDS, VALUES, strict=True):
        np.save(tmp_path / "images" / f"{name}.npy", vector.reshape(shape))
    names, values = read(tmp_path / "images")
    assert names == sorted(str(n) for n in IDS)
    np.testing.assert_array_equal(values, VALUES[np.argsort([str(n) for n in IDS])])
    names, values = read(hdf5(tmp_path, **{str(n): VALUES[0].reshape(shape) for n in IDS}))
    np.testing.assert_array_equal(values, np.stack([VALUES[0]] * 4))


def test_a_folder_of_npz_files_holds_the_features_beside_other_arrays(tmp_path):
    folder = tmp_path / "att"
    folder.mkdir()
    info = np.array({"objects": 3}, dtype=object)
    for name, regions in zip("abcd", REGIONS, strict=True):
        np.savez_compressed(folder / f"{name}.npz", feat=regions, bbox=np.ones((3, 4)),
                            image_w=np.int64(640), info=info)  # fmt: skip
    names, values = read(folder, regions=True)
    assert names == ["a", "b", "c", "d"]
    np.testing.assert_allclose(values, MEANS, rtol=1e-6)
    with pytest.raises(CacheError, match=r"a.npz: has shape \(3, 6\), .*; give --mean-over-regi"):
        read(folder)
    np.savez(folder / "a.npz", one=REGIONS[0], two=REGIONS[0])
    with pytest.raises(CacheError, match=r"a.npz: holds 2 arrays that may be the features: one"):
        read(folder, regions=True)


@pytest.mark.parametrize("form", FORMS)
def test_regions_are_averaged(tmp_path, form):
    source = form(tmp_path, features=REGIONS, ids=IDS)
    assert "has shape (3, 6)" in refused(source)
    np.testing.assert_allclose(read(source, regions=True)[1], MEANS, rtol=1e-6)


def test_images_may_have_any_number_of_regions(tmp_path):
    (tmp_path / "images").mkdir()
    for count in (1, 10, 100):
        np.save(tmp_path / "images" / f"{count}.npy", np.full((count, 6), count, np.float32))
    names, values = read(tmp_path / "images", regions=True)
    assert values.tolist() == [[float(name)] * 6 for name in names]


def test_regions_of_zeros_are_padding(tmp_path):
    padded = REGIONS.copy()
    padded[:, 2:] = 0
    source = npz(tmp_path, features=padded, ids=IDS)
    np.testing.assert_allclose(
        read(source, regions=True)[1], padded[:, :2].mean(1, np.float64), rtol=1e-6
    )
    padded[1] = 0
    line = refused(npz(tmp_path, features=padded, ids=IDS), regions=True)
    assert "features.npz: 7: all 3 regions are zero; leave the image out" in line


@pytest.mark.parametrize("shape", [(3, 2, 6), (0, 6), (3, 0)])
def test_regions_of_another_shape_are_refused(tmp_path, shape):
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "images" / "a.npy", np.ones(shape, np.float32))
    with pytest.raises(CacheError, match=r"images/a.npy: has (shape|0 numbers)"):
        read(tmp_path / "images", regions=True)


def test_the_spec_says_that_regions_were_averaged(tmp_path):
    source = npz(tmp_path, features=REGIONS, ids=IDS)
    given = {"source": source, "architecture": "faster-rcnn", "weights": "w", "pooling": "max"}
    import_features(ImportOptions(**given, into=tmp_path / "c", mean_over_regions=True))
    cache = Cache.open(tmp_path / "c")
    assert cache.spec.pooling == "max, mean over regions"
    np.testing.assert_allclose(cache.features(["7"]), MEANS[1:2], rtol=1e-6)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
@pytest.mark.parametrize("block", [1, 100, 1 << 20])
def test_rows_are_read_in_blocks(tmp_path, monkeypatch, order, save, block):
    monkeypatch.setattr(vector_shapes, "_BLOCK", block)
    values = np.random.default_rng(2).normal(size=(9, 2, 5)).astype(">f4")
    source = tmp_path / ("x.npy" if save is np.save else "x.npz")
    save(source, np.asarray(values, order=order))
    (tmp_path / "names.txt").write_text("".join(f"{n}\n" for n in range(9)))
    means = values.mean(1, np.float64)
    _, found = read(source, tmp_path / "names.txt", regions=True)
    np.testing.assert_allclose(found, means, rtol=1e-6)
    with open_vectors(source, tmp_path / "names.txt", Pooling(regions=True)) as vectors:
        for number in (5, 0, 8, 3):  # backwards, too
            np.testing.assert_allclose(vectors.read(number), means[number], rtol=1e-6)


@pytest.mark.parametrize(
    ("suffix", "order"), [(".npy", "C"), (".npy", "F"), (".npz", "C"), (".h5", "C")]
)
def test_a_file_that_is_cut_while_it_is_read_is_an_error_and_no_crash(tmp_path, suffix, order):
    """A mapped file would end the process with SIGBUS."""
    values = np.asarray(np.random.default_rng(2).normal(size=(3000, 2000)), order=order)
    source, names = tmp_path / f"x{suffix}", tmp_path / "names.txt"
    names.write_text("".join(f"{n}\n" for n in range(len(values))))
    if suffix == ".h5":
        hdf5(tmp_path, features=values).rename(source)
    else:
        (np.save if suffix == ".npy" else np.savez)(source, values)
    with open_vectors(source, names, Pooling()) as vectors:
        np.testing.assert_array_equal(vectors.read(0), values[0])
        os.truncate(source, 1 << 16)
        with pytest.raises(CacheError, match=f"^{source}: 2999: (was cut while|cannot be read)"):
            vectors.read(2999)


def test_an_error_of_the_caller_is_no_error_of_the_file(tmp_path):
    source = hdf5(tmp_path, features=VALUES, ids=IDS)
    with pytest.raises(OSError, match="no space"), open_vectors(source, None, Pooling()):
        raise OSError("no space")


def test_damaged_bytes_of_an_archive_are_found_before_any_is_used(tmp_path):
    source = npz(tmp_path, features=VALUES, ids=np.array(IDS))
    content = bytearray(source.read_bytes())
    place = content.index(VALUES.tobytes())
    content[place + 50] ^= 1
    source.write_bytes(content)
    opened = open_vectors(source, None, Pooling())
    with pytest.raises(CacheError, match="cannot be read .*CRC"), opened:
        pytest.fail("opened")


def test_texts_of_any_length_are_read_from_chunks(tmp_path):
    texts = ["", "é" * 9, *(f"{n}.jpg" for n in range(300)), "x" * 70000]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["features"] = np.ones((len(texts), 6), np.float32)
        names = file.create_dataset(
            "names", (0,), h5py.string_dtype(), maxshape=(None,), chunks=(7,)
        )
        names.resize((len(texts),))
        names[:] = texts
    assert read(tmp_path / "x.h5")[0] == texts
    with h5py.File(tmp_path / "x.h5", "a") as file:
        del file["names"]
        file.create_dataset("names", data=texts, compression="gzip")
    assert "stored in an unusual way; save them as" in refused(tmp_path / "x.h5")


def test_damaged_texts_never_hang(tmp_path):
    """The HDF5 library hangs on some of these files."""
    source = hdf5(tmp_path, features=VALUES, names=np.array(TEXTS))
    whole, chance = source.read_bytes(), random.Random(0)
    heap = whole.index(b"GCOL")
    for _ in range(200):
        content = bytearray(whole)
        place = chance.randrange(heap, heap + 250)
        content[place] = chance.choice([0, 1, 255])
        source.write_bytes(content)
        thread = threading.Thread(target=attempt, args=(source,), daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()


def attempt(source):
    with suppress(CacheError):
        read(source)
