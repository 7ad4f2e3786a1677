"""Feature arrays in HDF5 files: a dataset for each image, or one for all with their names.

Links are not followed, and a dataset is compared with the file before it is read.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

import h5py
import numpy as np

from multispace.data.cache.format.hdf5 import check_link, check_storage
from multispace.data.external_vectors.array_choice import (
    Described,
    choose_features,
    choose_names,
    names_of,
)
from multispace.data.external_vectors.hdf5_text import read_texts
from multispace.data.external_vectors.vector_shapes import Pooling, Rows, check_type
from multispace.errors import CacheError, brief

MAX_DEPTH = 32  # of groups: hard links may form a ring


def hdf5_matrix(hdf5: h5py.File, file: BinaryIO, *, named: bool) -> tuple[Rows, list[str]] | None:
    """Return the rows of the features and the names, if one dataset holds those of all images.

    :param file: the file that ``hdf5`` reads
    :param named: whether the names are known; then none are read
    :returns: None if ``named`` is false and no dataset holds names
    :raises CacheError: there are several such datasets, or they do not lie whole in the file.
    """
    datasets = {name: held for name, held in _members(hdf5, "") if isinstance(held, h5py.Dataset)}
    described = {name: _described(dataset) for name, dataset in datasets.items()}
    size, names = os.fstat(file.fileno()).st_size, []
    if named:
        features = choose_features(described, axes=2)
    else:
        if not any(array.text or array.dtype.kind in "iu" for array in described.values()):
            _check_several(described)
            return None
        features = choose_features(described, axes=2)
        single = described[features].shape[:1] == (1,) and len(datasets) > 2
        chosen = None if single else choose_names(described, features)
        if chosen is None:
            return None
        names = _names(datasets[chosen], chosen, file, size)
    dataset = datasets[features]
    check_type(dataset.dtype)
    check_storage(dataset, features, size, chunked=True)
    return Rows(dataset.shape, dataset.dtype, lambda start, stop: dataset[start:stop]), names


def hdf5_datasets(file: h5py.File) -> list[str]:
    """Return the paths of all datasets, sorted.

    :raises CacheError: groups are nested deeper than MAX_DEPTH.
    """
    return sorted(_paths(file, "", MAX_DEPTH))


def dataset_reader(
    hdf5: h5py.File, file: BinaryIO, pooling: Pooling
) -> Callable[[str], np.ndarray]:
    """Return a function that reads the dataset of one image.

    :param file: the file that ``hdf5`` reads
    """
    size = os.fstat(file.fileno()).st_size

    def read(name: str) -> np.ndarray:
        dataset = hdf5[name]
        check_type(dataset.dtype)
        pooling.check(dataset.shape)
        check_storage(dataset, "the dataset", size, chunked=True)
        values: np.ndarray = dataset[()]
        return values

    return read


def _members(group: h5py.Group, prefix: str) -> Iterator[tuple[str, h5py.HLObject]]:
    """Yield what the hard links of a group lead to.

    :raises DataError: there is another link.
    """
    for raw in group.id:
        check_link(group, raw)
        yield prefix + raw.decode(), group[raw.decode()]


def _paths(group: h5py.Group, prefix: str, depth: int) -> Iterator[str]:
    if not depth:
        raise CacheError(f"groups are nested deeper than {MAX_DEPTH}")
    for name, held in _members(group, prefix):
        if isinstance(held, h5py.Group):
            yield from _paths(held, f"{name}/", depth - 1)
        elif isinstance(held, h5py.Dataset):
            yield name


def _described(dataset: h5py.Dataset) -> Described:
    text = h5py.check_string_dtype(dataset.dtype) is not None
    return Described(dataset.shape or (), dataset.dtype, text)


def _check_several(arrays: Mapping[str, Described]) -> None:
    """Check that the only dataset of a file is not a matrix of all images.

    :raises CacheError: it is.
    """
    for name, array in arrays.items():
        if len(arrays) == 1 and array.dtype.kind == "f" and sum(n > 1 for n in array.shape) > 1:
            raise CacheError(
                f"{brief(name, 60)} has shape {array.shape}, and there are no names of its rows",
                hint="give --names FILE, one name per line",
            )


def _names(dataset: h5py.Dataset, name: str, file: BinaryIO, size: int) -> list[str]:
    """Return the names that a dataset of whole numbers or text holds.

    :raises CacheError: it does not lie whole in the file.
    """
    if dataset.dtype.hasobject:  # text of any length
        return [text.decode() for text in read_texts(dataset, file)]
    check_storage(dataset, name, size, chunked=True)
    return names_of(dataset[()])
