"""What a cache holds out of training: pairs of words, and the images that show them."""

from collections.abc import Sequence
from pathlib import Path

from multispace.data.annotations import Collection
from multispace.data.cache.encoded_captions import Captions, load_captions
from multispace.data.cache.listed_file import Entry, check_entry
from multispace.data.cache.writer import CacheWriter
from multispace.data.held_out import HELD_OUT, HeldOut, hold_out, read_split_file
from multispace.errors import OptionError

TRAIN = "train"


def held_out_of(
    collection: Collection, writer: CacheWriter, said: Sequence[str], split_file: Path | None
) -> tuple[Collection, HeldOut | None, dict[str, dict[str, int]]]:
    """Move images out of training: what the command says, else what the cache was made with.

    :param said: pairs such as "black dog"
    :return: the collection with its splits changed, what is held out, and how many images
        each pair moved, by split
    :raises OptionError: the cache holds out something else, or nothing is left to train on.
    """
    asked, ids = None, None
    if split_file is not None:
        asked, ids = read_split_file(split_file)
    elif pairs := said or collection.held_out:
        asked = HeldOut(tuple(pairs))
    if entries := writer.manifest.captions:
        entry = entries.get(TRAIN) or next(iter(entries.values()))
        held = captions_of(writer, entry).held_out
        if (asked or held) != held or (held and held.split_file and ids is None):
            raise OptionError(
                f"{writer.root}: was made with {held or 'nothing'} held out, asked for is "
                f"{asked or 'no split file'}; give the same, or use another --cache"
            )
        asked = held
    if asked is None:
        return collection, None, {}
    moved, counts = hold_out(collection, asked, ids)
    if ids is not None and HELD_OUT.keys() & set(collection.splits) and moved == collection:
        raise OptionError(
            f"{split_file}: none of its images is in {collection.source}; "
            "give the annotations of MS-COCO, whose ids it has"
        )
    if collection.split(TRAIN) and not moved.split(TRAIN):
        raise OptionError(f"{collection.source}: every training image shows {asked}; hold out less")
    return moved, asked, counts


def captions_of(writer: CacheWriter, entry: Entry) -> Captions:
    """Return the captions that a manifest lists, whatever their vocabulary."""
    return load_captions(check_entry(writer.root, entry), None)
