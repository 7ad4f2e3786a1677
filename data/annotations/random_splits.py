"""Random splits of a collection that comes without splits."""

import random
from collections.abc import Sequence
from dataclasses import replace

from multispace.data.annotations.collection import Collection
from multispace.data.annotations.split_names import SPLITS
from multispace.errors import AnnotationError


def with_random_splits(
    collection: Collection, percentages: Sequence[float], seed: int
) -> Collection:
    """Assign each image, with all its captions, to train, val or test at random.

    The result depends only on the keys of the images, the percentages and the seed.

    :param percentages: of train, val and test; they sum to 100
    :raises AnnotationError: the collection has several splits already, or a split would be empty.
    """
    if len(collection.splits) > 1:
        raise AnnotationError(
            f"has splits already: {', '.join(collection.splits)}",
            where=collection.source,
            hint="leave out --make-splits",
        )
    keys = sorted(image.key for image in collection.images)
    random.Random(seed).shuffle(keys)
    val, test = (round(len(keys) * percentage / 100) for percentage in percentages[1:])
    counts = (len(keys) - val - test, val, test)
    for split, count, percentage in zip(SPLITS, counts, percentages, strict=True):
        if percentage and count < 1:
            raise AnnotationError(
                f"{len(keys)} images leave the split {split!r} empty",
                where=collection.source,
                hint="give other percentages with --make-splits",
            )
    names = [split for split, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
    split_of = dict(zip(keys, names, strict=True))
    shares = ",".join(f"{percentage:g}" for percentage in percentages)
    made = ", ".join(f"{count} {split}" for split, count in zip(SPLITS, counts, strict=True))
    return replace(
        collection,
        images=tuple(replace(image, split=split_of[image.key]) for image in collection.images),
        notes=(*collection.notes, f"random splits {shares} with seed {seed}: {made} images"),
    )
