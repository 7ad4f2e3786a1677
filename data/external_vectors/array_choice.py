"""The arrays of a file that hold the features and the names of images."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from multispace.errors import CacheError, brief

FEATURES = ("features", "feature", "feats", "feat", "vectors", "embeddings", "image_features", "x")
NAMES = (
    "ids", "id", "image_ids", "image_id", "img_ids", "img_id", "names", "keys", "filenames",
    "file_names", "files", "images",
)  # fmt: skip


class Described(NamedTuple):
    """What is known of an array before it is read.

    :param text: whether it holds text
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    text: bool = False


def choose_features(arrays: Mapping[str, Described], axes: int) -> str:
    """Return the array that holds the features: the only one that may, or one of FEATURES.

    :param axes: how many it has at least, if there are others
    :raises CacheError: there is none, or several.
    """
    if len(arrays) == 1:
        return next(iter(arrays))
    floats = [
        name
        for name, array in arrays.items()
        if array.dtype.kind == "f" and len(array.shape) >= axes
    ]
    if not floats:
        kinds = ", ".join(f"{brief(n, 60)} {a.dtype} {a.shape}" for n, a in arrays.items())
        raise CacheError(f"holds no array of features ({brief(kinds, 200) or 'it is empty'})")
    return _one_of(floats, FEATURES, "features")


def choose_names(arrays: Mapping[str, Described], features: str) -> str | None:
    """Return the array that names the rows of the features: whole numbers or text.

    :raises CacheError: there are several, or it would need pickle.
    """
    count = arrays[features].shape[0]
    rows = {name: array for name, array in arrays.items() if array.shape in ((count,), (count, 1))}
    names = [name for name, array in rows.items() if array.text or array.dtype.kind in "iu"]
    if not names:
        objects = [n for n, a in rows.items() if a.dtype.hasobject]
        if objects:
            raise CacheError(
                f"{brief(objects[0], 60)} holds Python objects, which only pickle can read",
                hint="save it as text or whole numbers, or give --names FILE",
            )
        return None
    return _one_of(names, NAMES, "names")


def names_of(values: np.ndarray) -> list[str]:
    """Return the names that an array of whole numbers or text holds.

    :raises UnicodeDecodeError: a text is not UTF-8.
    """
    flat = values.reshape(-1).tolist()
    return [value.decode() if isinstance(value, bytes) else str(value) for value in flat]


def _one_of(candidates: Sequence[str], usual: Sequence[str], what: str) -> str:
    if len(candidates) == 1:
        return candidates[0]
    known = [name for name in candidates if name.lower() in usual]
    if len(known) != 1:
        found = brief(", ".join(candidates), 200)
        raise CacheError(
            f"holds {len(candidates)} arrays that may be the {what}: {found}",
            hint=f"name one of them {usual[0]}, or remove the others",
        )
    return known[0]
