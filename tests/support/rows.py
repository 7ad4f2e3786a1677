"""Vectors that follow from their keys, and a small cache of them, without a network."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from multispace.data.annotations import CaptionedImage
from multispace.data.cache.format.spec import FeatureSpec, Transform
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import CacheWriter, write_cache
from multispace.data.captions.encoded_captions import encode_captions
from multispace.data.captions.vocabulary import build_vocabulary

SPEC = FeatureSpec(
    architecture="resnet18",
    weights_sha256="0" * 64,
    transform=Transform(36, 32, "bilinear", True, (0.5, 0.4, 0.3), (0.25, 0.2, 0.15)),
    decode="pillow",
    pooling="global average",
    dimension=6,
    weights="random:0",
    versions={"torch": "2.6"},
)

CAPTIONS = {
    "train": {
        "a.jpg": ("a red bus", "a bus"),
        "sub/é.jpg": ("a blue bus on a long road",),
        "c.jpg": ("a road", "red", "a long red road"),
    },
    "val": {"d.jpg": ("a blue road",), "e.jpg": ("a bus on a road", "bus")},
}
KEYS = [key for images in CAPTIONS.values() for key in images]


def digests(keys: Sequence[str]) -> np.ndarray:
    """Return (N, 32), the digest of each key in place of its image's."""
    return np.frombuffer(b"".join(map(_sha256, keys)), np.uint8).reshape(-1, 32)


def vectors(keys: Sequence[str]) -> np.ndarray:
    """Return float16 (N, 6)."""
    return np.array(
        [np.random.default_rng(list(_sha256(k))).normal(size=SPEC.dimension) for k in keys],
        np.float16,
    ).reshape(-1, SPEC.dimension)


def append(
    writer: CacheWriter,
    keys: Sequence[str],
    failures: Mapping[str, str] | None = None,
    spec: FeatureSpec = SPEC,
) -> None:
    """Add the vectors of ``keys`` as one shard."""
    writer.append(spec, keys, digests(keys), vectors(keys), failures or {})


def put_text(
    writer: CacheWriter, captions: Mapping[str, Mapping[str, tuple[str, ...]]] = CAPTIONS
) -> None:
    """Add a vocabulary of all words, if there is none yet, and the captions of all splits."""
    texts = [text for split in captions.values() for texts in split.values() for text in texts]
    vocabulary = build_vocabulary(texts, "whitespace", 1, "source")
    if writer.manifest.vocabulary is None:
        writer.put_vocabulary(vocabulary)
    for split, images in captions.items():
        wanted = [CaptionedImage(key, n, images[key], split) for n, key in enumerate(images)]
        writer.put_captions(encode_captions(wanted, split, vocabulary, "source"))


def make_cache(root: Path, keys: Sequence[str] = KEYS, shard_size: int = 2) -> Cache:
    """Make a cache of CAPTIONS, and of ``keys`` in shards."""
    with write_cache(root) as writer:
        put_text(writer)
        for start in range(0, len(keys), shard_size):
            append(writer, keys[start : start + shard_size])
    return Cache.open(root)


def text_file(root: Path, what: str) -> Path:
    """Return the file of the vocabulary, or of the captions of a split."""
    manifest = Cache.open(root).manifest
    entry = manifest.vocabulary if what == "vocabulary" else manifest.captions[what]
    return root / entry.file


def shard_files(root: Path) -> list[str]:
    """Return the names of the shards on disk."""
    return sorted(path.name for path in (root / "features").glob("*.h5"))


def assert_whole(root: Path, keys: Sequence[str] = KEYS) -> None:
    """Check that the cache at ``root`` has the right vector of each key, once."""
    cache = Cache.open(root)
    assert sorted(key for shard in cache.shards for key in shard.keys) == sorted(keys)
    np.testing.assert_array_equal(cache.features(keys), vectors(keys))
    for shard in cache.shards:
        np.testing.assert_array_equal(shard.image_sha256, digests(shard.keys))
    assert shard_files(root) == sorted(Path(s.file).name for s in cache.manifest.shards)
    assert not list(root.rglob(".partial-*"))


def _sha256(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
