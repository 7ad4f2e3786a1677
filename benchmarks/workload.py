"""The workload of the benchmarks: a generated feature cache of the size of MS-COCO train2014.

It has 82,783 vectors of 2,048 float16 numbers and 414,113 captions of 10.5 words on average (std
2.4, from 6 to 49). The vocabulary has 8,859 words including the special ones, with frequencies
that follow Zipf's law. With fewer images the number of captions is proportionally smaller.
"""

import argparse
import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from measurement import IMAGES, WORKLOADS, print_table
from PIL import Image

from multispace.data.annotations.collection import CaptionedImage
from multispace.data.batches import Pairs, make_pairs
from multispace.data.cache.format.spec import IMPORTED_UNSEEN, FeatureSpec
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import write_cache
from multispace.data.captions.encoded_captions import Captions, encode_captions
from multispace.data.captions.vocabulary import SPECIALS, Vocabulary
from multispace.errors import CacheError

CAPTIONS = 414_113
WORDS = 8_859
FEATURES = 2_048
SHARD = 4_096
SIZE = (640, 480)  # pixels of an image
SHORTEST, MEAN, STD, LONGEST = 6, 10.5, 2.4, 49

SPEC = FeatureSpec(
    architecture="generated",
    weights_sha256="0" * 64,
    transform=None,
    decode="none",
    pooling="none",
    dimension=FEATURES,
    weights="none",
    origin=IMPORTED_UNSEEN,
)


def workload(folder: Path, images: int = IMAGES, seed: int = 0) -> Cache:
    """Return the cache of ``images`` images under ``folder``; generate it if it does not exist.

    :raises CacheError: another cache is there
    """
    recipe = {"images": images, "seed": seed, "words": WORDS, "features": FEATURES}
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    root = folder / f"{images}-images-seed-{seed}"
    if not root.exists():
        partial = root.with_name(f".partial-{root.name}")
        shutil.rmtree(partial, ignore_errors=True)
        _write(partial, images, seed, digest)
        partial.rename(root)
    cache = Cache.open(root)
    if cache.vocabulary().source_digest != digest:
        raise CacheError("not the workload that its name states", where=root, hint="delete it")
    return cache


def pairs_in_memory(images: int = IMAGES, seed: int = 0) -> tuple[Vocabulary, Pairs]:
    """Return a vocabulary and captions with features like those of :func:`workload`.

    It takes a few seconds and writes no file.
    """
    random = np.random.default_rng(seed)
    count = round(images * CAPTIONS / IMAGES)
    ids, lengths = _words(random, WORDS - len(SPECIALS), count)
    each = np.full(images, count // images)
    each[: count % images] += 1
    keys = tuple(f"{number:012d}.jpg" for number in range(images))
    captions = Captions(
        split="train",
        keys=keys,
        image_ids=tuple(range(images)),
        image=np.repeat(np.arange(images), each).astype(np.int32),
        tokens=(ids + len(SPECIALS)).astype(np.int32),
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        texts=("",) * count,
        factors=None,
        vocabulary_digest="0" * 64,
        source_digest="0" * 64,
    )
    features = torch.empty(images, FEATURES)
    features.exponential_(2.5, generator=torch.Generator().manual_seed(seed))  # of mean 0.4
    pairs = make_pairs(captions, np.ones(images, bool), features.half())
    return _vocabulary("0" * 64), pairs


def make_images(folder: Path, count: int, images: Path | None) -> dict[str, Path]:
    """Write ``count`` JPEGs of COCO's size; return their paths by key.

    :param images: folder of real images, which are enlarged; None to generate images
    """
    sources = sorted(images.rglob("*.jpg")) if images else []
    random = np.random.default_rng(0)
    files = {}
    for number in range(count):
        if sources:
            image = Image.open(sources[number % len(sources)]).convert("RGB")
        else:
            image = Image.fromarray(random.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        path = folder / f"{number:06d}.jpg"
        image.resize(SIZE, Image.Resampling.BICUBIC).save(path, quality=90)
        files[path.name] = path
    return files


def _vocabulary(digest: str) -> Vocabulary:
    words = (f"w{number}" for number in range(WORDS - len(SPECIALS)))
    return Vocabulary((*SPECIALS, *words), "whitespace", 1, digest)


def _write(root: Path, images: int, seed: int, digest: str) -> None:
    random = np.random.default_rng(seed)
    vocabulary = _vocabulary(digest)
    words = vocabulary.words[len(SPECIALS) :]
    keys = [f"COCO_train2014_{number:012d}.jpg" for number in range(1, images + 1)]
    with write_cache(root) as writer:
        for start in range(0, images, SHARD):
            part = keys[start : start + SHARD]
            # Like pooled activations: never negative, and mostly small.
            vectors = random.standard_exponential((len(part), FEATURES), np.float32)
            zeros = np.zeros((len(part), 32), np.uint8)
            writer.append(SPEC, part, zeros, 0.4 * vectors, {})
        writer.put_vocabulary(vocabulary)
        texts = _texts(random, words, captions=round(images * CAPTIONS / IMAGES))
        counts = np.full(images, len(texts) // images)
        counts[: len(texts) % images] += 1
        ends = np.cumsum(counts).tolist()
        listed = [
            CaptionedImage(key, number, tuple(texts[end - count : end]), "train")
            for number, (key, count, end) in enumerate(
                zip(keys, counts.tolist(), ends, strict=True), start=1
            )
        ]
        writer.put_captions(encode_captions(listed, "train", vocabulary, digest))


def _texts(random: np.random.Generator, words: tuple[str, ...], captions: int) -> list[str]:
    ids, lengths = _words(random, len(words), captions)
    spelt = np.array(words, dtype=object)[ids].tolist()
    ends = np.cumsum(lengths).tolist()
    return [" ".join(spelt[e - n : e]) for n, e in zip(lengths.tolist(), ends, strict=True)]


def _words(random: np.random.Generator, words: int, captions: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the words of all captions, one after another, and the length of each caption."""
    lengths = SHORTEST + _gamma(random, MEAN - SHORTEST, STD, captions)
    long = random.random(captions) < 1e-4  # a few captions consist of several sentences
    lengths[long] = random.integers(20, LONGEST, long.sum())
    lengths[0] = LONGEST
    weights = 1 / np.arange(1, words + 1)
    ids = np.searchsorted(np.cumsum(weights / weights.sum()), random.random(lengths.sum()))
    return np.minimum(ids, words - 1), lengths


def _gamma(random: np.random.Generator, mean: float, std: float, count: int) -> np.ndarray:
    scale = std**2 / mean
    return np.rint(random.gamma(mean / scale, scale, count)).astype(np.int64)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--workloads", type=Path, default=WORKLOADS, help="folder to generate it in"
    )
    parser.add_argument("--quick", action="store_true", help="generate 200 images")
    args = parser.parse_args(argv)
    began = time.perf_counter()
    cache = workload(args.workloads, 200 if args.quick else args.images, args.seed)
    took = time.perf_counter() - began
    captions = cache.captions("train")
    lengths = np.diff(captions.offsets)
    print(f"{cache.root}: generated or opened in {took:.1f} s\n")
    print_table(
        ("images", "vector", "captions", "words a caption", "std", "longest", "words"),
        (
            f"{captions.images:,}",
            f"{cache.spec.dimension:,} {cache.spec.dtype}",
            f"{len(lengths):,}",
            f"{lengths.mean():.2f}",
            f"{lengths.std():.2f}",
            str(lengths.max()),
            f"{len(cache.vocabulary()):,}",
        ),
    )


if __name__ == "__main__":
    main()
