"""The pairs that a cache excludes from training, and the images that show them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from multispace.data.annotations import Collection
from multispace.data.cache.format.listed_file import Entry, read_entry
from multispace.data.cache.writer import CacheWriter
from multispace.data.captions.encoded_captions import Captions, parse_captions
from multispace.data.held_out import HELD_OUT_SPLITS, HeldOut, hold_out, read_split_file
from multispace.errors import OptionError

TRAIN = "train"


@dataclass(frozen=True)
class Exclusion:
    """Result of excluding pairs from training.

    :param collection: with its images moved to held-out splits
    :param held_out: the record of what is held out, if anything is
    :param counts: pair -> held-out split -> images that were moved there
    :param moved: keys of the images that were moved
    """

    collection: Collection
    held_out: HeldOut | None = None
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    moved: frozenset[str] = frozenset()


def exclude_pairs(
    collection: Collection, writer: CacheWriter, pairs: Sequence[str], split_file: Path | None
) -> Exclusion:
    """Move images that show held-out pairs out of training.

    By default these are the pairs that the collection or the cache was made with.

    :param pairs: requested pairs, such as "black dog"
    :param split_file: a published split file that lists the images
    :raises OptionError: the cache holds out something else, or no training image is left.
    """
    requested, ids = None, None
    if split_file is not None:
        requested, ids = read_split_file(split_file)
    elif asked := pairs or collection.held_out:
        requested = HeldOut(tuple(asked))
    if writer.manifest.captions:
        requested = _recorded(writer, requested, ids is not None)
    if requested is None:
        return Exclusion(collection)
    moved, counts = hold_out(collection, requested, ids)
    if ids is not None and HELD_OUT_SPLITS.keys() & set(collection.splits) and moved == collection:
        raise OptionError(
            f"none of its images is in {collection.source}",
            where=split_file,
            hint="give the annotations of MS-COCO, whose ids it has",
        )
    if collection.split(TRAIN) and not moved.split(TRAIN):
        raise OptionError(
            f"every training image shows {requested}",
            where=collection.source,
            hint="hold out fewer pairs",
        )
    pairs_of_images = zip(collection.images, moved.images, strict=True)
    keys = frozenset(after.key for before, after in pairs_of_images if before.split != after.split)
    return Exclusion(moved, requested, counts, keys)


def _recorded(writer: CacheWriter, requested: HeldOut | None, listed: bool) -> HeldOut | None:
    """Return what the cache was made with, which a request must not contradict.

    :param listed: whether a split file lists the images
    """
    entries = writer.manifest.captions
    entry = entries.get(TRAIN) or next(iter(entries.values()))
    recorded = captions_of(writer, entry).held_out
    if (requested or recorded) != recorded or (recorded and recorded.split_file and not listed):
        raise OptionError(
            f"was made with {recorded or 'nothing'} held out, asked for is "
            f"{requested or 'no split file'}",
            where=writer.root,
            hint="give the same, or use another --cache",
        )
    return recorded


def captions_of(writer: CacheWriter, entry: Entry) -> Captions:
    """Return the captions that a manifest lists, for any vocabulary."""
    content = read_entry(writer.root, entry)
    return parse_captions(content, writer.root / entry.file, None)
