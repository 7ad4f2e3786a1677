import os
from dataclasses import replace

import numpy as np
import pytest
from support.rows import KEYS, SPEC, digests, vectors

from multispace.data.cache import feature_rows
from multispace.data.cache.feature_rows import non_finite_rows
from multispace.data.cache.format.shard import open_shard, write_shard
from multispace.errors import DamagedFileError


@pytest.fixture
def entry(tmp_path):
    return write_shard(tmp_path / "features", 0, SPEC, KEYS, digests(KEYS), vectors(KEYS))


@pytest.mark.parametrize("together", [1, 1 << 20])  # bytes
@pytest.mark.parametrize(
    "index",
    [0, -1, slice(None), slice(1, 3), slice(3, 1), slice(4, None, -2), [4, 0, 0, 2], [],
     np.array([1, 2, 3])],
    ids=str,
)  # fmt: skip
def test_rows_are_indexed_as_an_array_is(tmp_path, entry, monkeypatch, index, together):
    monkeypatch.setattr(feature_rows, "_BYTES", together)
    rows, whole = open_shard(tmp_path, entry).features, vectors(KEYS)
    assert (rows.shape, rows.dtype, len(rows)) == (whole.shape, whole.dtype, len(whole))
    wanted = whole[np.array(index, int) if isinstance(index, list) else index]
    np.testing.assert_array_equal(rows[index], wanted)
    assert rows[index].dtype == whole.dtype
    blocks = list(rows.blocks())
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), whole)
    assert [start for start, _ in blocks] == (list(range(5)) if together == 1 else [0])


@pytest.mark.parametrize("index", [5, -6, [0, 5]])
def test_a_row_beyond_the_last_is_refused(tmp_path, entry, index):
    with pytest.raises(IndexError):
        open_shard(tmp_path, entry).features[index]


def test_a_file_that_is_cut_after_the_check_is_an_error_and_no_crash(tmp_path, entry):
    features = open_shard(tmp_path, entry).features
    rows = features.blocks()
    os.truncate(tmp_path / entry.file, 100)
    with pytest.raises(DamagedFileError, match="100 bytes, the manifest says"):
        next(rows)
    with pytest.raises(DamagedFileError, match="100 bytes, the manifest says"):
        features[:]


def test_a_file_that_is_cut_between_two_reads_is_an_error(tmp_path, entry, monkeypatch):
    monkeypatch.setattr(feature_rows, "_BYTES", 1)
    rows = open_shard(tmp_path, entry).features.blocks()
    next(rows)
    os.truncate(tmp_path / entry.file, 100)
    with pytest.raises(DamagedFileError, match="was cut while it was read"):
        next(rows)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_found(dtype, value):
    rows = np.zeros((3, 1 << 18), dtype)
    rows[1, 5] = value
    assert non_finite_rows(rows).tolist() == [1]
    assert non_finite_rows(rows[:1]).tolist() == []


def test_a_wide_type_is_kept(tmp_path):
    spec = replace(SPEC, dtype="float32")
    values = vectors(KEYS).astype(np.float32) + np.float32(1e-5)
    entry = write_shard(tmp_path / "features", 0, spec, KEYS, digests(KEYS), values)
    np.testing.assert_array_equal(open_shard(tmp_path, entry).features, values)
