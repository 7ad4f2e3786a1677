"""A feature cache in Python: vectors as arrays, captions as text, splits as datasets."""

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from multispace.api.arguments import path_or_url
from multispace.data.batches import load_pairs
from multispace.data.cache.format.spec import FeatureSpec
from multispace.data.cache.reader import Cache
from multispace.data.caption_dataset import CaptionDataset
from multispace.data.captions.vocabulary import Vocabulary
from multispace.errors import CacheError
from multispace.pipeline.cache_transfer import open_anywhere


class FeatureCache:
    """A feature cache that is open for reading. ``multispace.open_cache`` returns it.

    ``len(cache)`` is the number of images that have a feature vector, and ``key in cache`` says
    whether an image has one.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    @property
    def folder(self) -> Path:
        """The folder of the cache; of a remote cache, that of the files that were fetched."""
        return self._cache.root

    @property
    def spec(self) -> FeatureSpec:
        """How the features were made: network, weights, transform, pooling, storage type.

        :raises CacheError: the cache holds captions only.
        """
        return self._cache.spec

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys of all images that have a feature vector, in the order of the shards."""
        return tuple(self._cache.rows)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""
        return tuple(self._cache.manifest.captions)

    def __len__(self) -> int:
        return len(self._cache.rows)

    def __contains__(self, key: object) -> bool:
        return key in self._cache.rows

    def __repr__(self) -> str:
        rows, splits = self._cache.manifest.rows, ", ".join(self.splits) or "none"
        return f"<FeatureCache {self.folder}: {rows} vectors, splits: {splits}>"

    def features(
        self, keys: Iterable[str] | None = None, *, dtype: npt.DTypeLike = np.float32
    ) -> np.ndarray:
        """Return the feature vectors of images.

        :param keys: the images, in any order; all of :attr:`keys` if not given
        :param dtype: the type of the result; None keeps the storage type, usually float16
        :returns: an array (N, D) with a row for each key
        :raises MissingFeatureError: an image has no vector.
        :raises CacheError: a shard is damaged, or the cache holds captions only.
        """
        if isinstance(keys, str):
            raise CacheError(
                f"features({keys!r}): this is one key", hint=f"give a list: features([{keys!r}])"
            )
        vectors = self._cache.features(self.keys if keys is None else list(keys))
        return vectors if dtype is None else vectors.astype(dtype, copy=False)

    def vocabulary(self) -> Vocabulary:
        """Return the words of the captions: ``len``, ``encode(text)``, ``decode(ids)``.

        :raises VocabularyError: the cache has no vocabulary, or it is damaged.
        """
        return self._cache.vocabulary()

    def captions(self, split: str) -> dict[str, list[str]]:
        """Return the captions of a split as they were written, by the key of the image.

        :raises CaptionsError: there is no such split, or it is damaged.
        """
        encoded = self._cache.captions(split)
        captions: dict[str, list[str]] = {key: [] for key in encoded.keys}
        for image, text in zip(encoded.image.tolist(), encoded.texts, strict=True):
            captions[encoded.keys[image]].append(text)
        return captions

    def dataset(self, split: str, padded: bool = True) -> CaptionDataset:
        """Return a split as a PyTorch dataset of captions with their images' features.

        Give its ``collate`` to a ``DataLoader``:
        ``DataLoader(dataset, batch_size=64, shuffle=True, collate_fn=dataset.collate)``.
        Images without a feature vector are left out.

        :param padded: whether batches are padded
            (:class:`~multispace.data.caption_dataset.PaddedBatch`) or packed
            (:class:`~multispace.data.caption_dataset.PackedBatch`)
        :raises CaptionsError: there is no such split, or none of its images has a vector.
        """
        return CaptionDataset(load_pairs(self._cache, split), padded)


def open_cache(where: str | os.PathLike[str]) -> FeatureCache:
    """Open a feature cache for reading.

    :param where: a folder, or a URL (``https://``, ``s3://``, ``gs://`` ...). Of a remote cache
        only what is asked for is fetched and kept in ``~/.cache/multispace``:
        ``features(keys)`` fetches the shards that hold these images.
    :raises CacheError: there is no cache, or it is damaged.
    """
    return FeatureCache(open_anywhere(path_or_url(where)))
