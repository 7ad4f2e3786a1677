"""Fetching a cache from a URL.

What is pulled is checked against the manifest before it gets its name, and the manifest is
written last: a folder with a manifest has all that it lists.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from multispace.data.cache.conversion import convert
from multispace.data.cache.format.keys import check_key_list, parse_key_file, read_key_list
from multispace.data.cache.format.listed_file import (
    Entry,
    check_fits_memory,
    open_entry,
    read_entry,
)
from multispace.data.cache.format.manifest import NAME, Manifest, write_manifest
from multispace.data.cache.format.manifest_reader import read_manifest
from multispace.data.cache.format.shard import ShardEntry
from multispace.data.cache.lock import FOLDERS, lock_cache
from multispace.data.cache.unlisted import remove_replaced
from multispace.data.captions.encoded_captions import parse_captions
from multispace.data.captions.vocabulary import Vocabulary
from multispace.data.files import read_file, remove_partial
from multispace.data.remote.downloads import THREADS, fetch_all, remaining_bytes
from multispace.data.remote.remote_manifest import (
    check_same_fingerprint,
    fetch_manifest,
    first_missing,
)
from multispace.data.remote.result import Planned, Transferred
from multispace.data.remote.store import Store
from multispace.data.watch import Watch
from multispace.errors import CacheError

MAX_KEY_FILE = 1 << 30  # bytes

Announce = Callable[[Planned], None]


def pull(
    url: str,
    folder: Path,
    *,
    digest: str | None = None,
    only: str | None = None,
    threads: int = THREADS,
    watch: Watch | None = None,
    announce: Announce | None = None,
) -> Transferred:
    """Fetch the cache at ``url`` into ``folder``; files that are whole there already stay.

    :param digest: ``sha256:HEX`` or ``HEX``, of the ``cache.json`` that is expected
    :param only: a part of it: the name of a split (vocabulary, captions of that split, and the
        shards with its images), or a file of keys, one a line (vocabulary and shards)
    :param threads: files that are fetched at a time
    :param watch: called with the bytes of the shards, before they are fetched
    :param announce: called with what is missing in ``folder``, before the first file of a whole
        cache is fetched; not called if nothing is missing
    :raises CacheError: the digest is another, ``folder`` holds another cache, or a file is
        missing, too long, or not the bytes that the manifest lists.
    """
    store = Store(url)
    content, source = fetch_manifest(store, "ask its owner to push it again")
    found = hashlib.sha256(content).hexdigest()
    if digest is not None:
        _check_digest(store, found, digest)
    with lock_cache(folder):
        held = read_manifest(folder) if (folder / NAME).exists() else Manifest()
        _check_joins(folder, held, store, source)
        captions = source.captions if only is None else _captions_of(store, source, only)
        optional = (source.vocabulary, source.failures)
        text = [*captions.values(), *(entry for entry in optional if entry)]
        for entry in source.small_files():
            check_fits_memory(entry, store.where(entry.file))
        if announce is not None and only is None:
            _announce(announce, store, folder, source)
        fetched = fetch_all(store, folder, text, threads, None)
        shards = source.shards
        if only is not None:
            wanted = _split_keys(folder, source, only) if captions else _keys_in(Path(only))
            shards = _shards_of(store, folder, source, wanted, held, threads)
        whole = shards == source.shards
        keys = [shard.keys for shard in shards if shard.keys]
        keys += [source.key_list_1] if source.key_list_1 and whole else []
        fetched += fetch_all(store, folder, [*shards, *keys], threads, watch)
        manifest = replace(
            source,
            spec=source.spec or held.spec,
            shards=shards,
            vocabulary=source.vocabulary or held.vocabulary,
            captions={**held.captions, **captions},
            key_list_1=source.key_list_1 if whole else None,
        )
        before = [held, manifest]
        if held.version != source.version and held != Manifest():
            manifest = convert(folder, manifest)
        for place in (folder, *(folder / name for name in FOLDERS)):
            remove_partial(place)
        if manifest != held or not (folder / NAME).exists():
            write_manifest(folder, manifest)
            for replaced in before:
                remove_replaced(folder, replaced, manifest)
    return Transferred(
        url=store.url,
        folder=folder,
        digest=found,
        sent=tuple(sorted(entry.file for entry in fetched)),
        bytes=sum(entry.bytes for entry in fetched),
        present=len(text) + len(shards) + len(keys) - len(fetched),
        whole=manifest.to_bytes() == content,
    )


def _announce(announce: Announce, store: Store, folder: Path, source: Manifest) -> None:
    remaining = [remaining_bytes(folder, entry) for entry in source.files()]
    if files := sum(size > 0 for size in remaining):
        announce(Planned(store.url, folder, files, sum(remaining)))


def _check_digest(store: Store, found: str, digest: str) -> None:
    if not re.fullmatch(r"(sha256:)?[0-9a-f]{64}", digest):
        raise CacheError("expected sha256: and 64 hexadecimal digits", where=f"--digest {digest!r}")
    if digest.removeprefix("sha256:") != found:
        raise CacheError(
            f"its digest is sha256:{found}, expected {digest}",
            where=store.where(NAME),
            hint="ask its owner which is right",
        )


def _captions_of(store: Store, source: Manifest, only: str) -> dict[str, Entry]:
    """Return the captions of a split; none if ``only`` is a file of keys.

    :raises CacheError: it is neither.
    """
    captions = {split: entry for split, entry in source.captions.items() if split == only}
    if not captions and not Path(only).is_file():
        known = ", ".join(source.captions) or "none"
        raise CacheError(
            f"no captions of split {only!r}, and no file of keys of that name",
            where=store.url,
            hint=f"the splits are: {known}",
        )
    return captions


def _check_joins(folder: Path, held: Manifest, store: Store, source: Manifest) -> None:
    """Refuse a folder whose cache would lose something, or would be mixed with another.

    :raises CacheError: it would.
    """
    hint = "pull into another folder"
    check_same_fingerprint(folder, held, store, source, hint)
    if extra := first_missing(held, source):
        raise CacheError(f"holds {extra}, which {store.url} does not list", where=folder, hint=hint)
    mine, theirs = held.vocabulary, source.vocabulary
    if mine and theirs and mine.sha256 != theirs.sha256:
        raise CacheError(f"its vocabulary is not that of {store.url}", where=folder, hint=hint)


def _split_keys(folder: Path, source: Manifest, split: str) -> set[str]:
    """Return the keys of a split whose captions are fetched."""
    vocabulary = None
    if (held := source.vocabulary) is not None:
        vocabulary = Vocabulary.parse(read_entry(folder, held), folder / held.file)
    entry = source.captions[split]
    content = read_entry(folder, entry)
    return set(parse_captions(content, folder / entry.file, vocabulary).keys)


def _keys_in(path: Path) -> set[str]:
    try:
        return set(parse_key_file(read_file(path, MAX_KEY_FILE))) - {""}
    except UnicodeDecodeError as error:
        raise CacheError(f"not UTF-8 ({error})", where=path, hint="write one key a line") from error


def _shards_of(
    store: Store,
    folder: Path,
    source: Manifest,
    wanted: set[str],
    held: Manifest,
    threads: int,
) -> tuple[ShardEntry, ...]:
    """Return the shards that hold a wanted key, by the source's key lists, and those held.

    The key lists are fetched into ``folder``; those of other shards are removed again. Wanted
    keys without a vector are no fault here: captions name images that failed, too.

    :raises CacheError: there is no key list, one is not that of its shard, or none has a wanted
        key.
    """
    lists = [shard.keys for shard in source.shards if shard.keys]
    if source.version == 1:
        lists = [source.key_list_1] if source.key_list_1 else []
        if not lists:
            raise CacheError(
                "lists no keys, so that the needed shards are not known",
                where=store.url,
                hint="pull the whole cache",
            )
    temporary = [entry for entry in lists if not (folder / entry.file).exists()]
    here = {(shard.file, shard.sha256) for shard in held.shards}
    chosen: tuple[ShardEntry, ...] = ()
    try:
        fetch_all(store, folder, lists, threads, None)
        needed = (_needed_1 if source.version == 1 else _needed)(store, folder, source, wanted)
        chosen = tuple(
            shard
            for shard in source.shards
            if shard in needed or (shard.file, shard.sha256) in here
        )
    finally:
        for entry in {*temporary} - {shard.keys for shard in chosen}:
            (folder / entry.file).unlink(missing_ok=True)
    if not needed:
        raise CacheError(
            f"has a vector of none of the {len(wanted)} images wanted", where=store.url
        )
    return chosen


def _needed(store: Store, folder: Path, source: Manifest, wanted: set[str]) -> set[ShardEntry]:
    """Return the shards that hold a wanted key."""
    encoded = {key.encode(errors="replace") for key in wanted}
    needed = set()
    for shard in source.shards:
        assert shard.keys is not None
        content = read_entry(folder, shard.keys)
        try:
            check_key_list(content, shard.rows)
        except ValueError as error:
            raise CacheError(
                str(error), where=store.where(shard.keys.file), hint="pull the whole cache"
            ) from error
        if not encoded.isdisjoint(content.split(b"\n")):
            needed.add(shard)
    return needed


def _needed_1(store: Store, folder: Path, source: Manifest, wanted: set[str]) -> set[ShardEntry]:
    """Return the shards of a cache of version 1 that hold a wanted key."""
    entry = source.key_list_1
    assert entry is not None
    try:
        with open_entry(folder, entry) as file:
            return _shards_with(source.shards, read_key_list(file), wanted)
    except ValueError as error:
        raise CacheError(
            str(error), where=store.where(entry.file), hint="pull the whole cache"
        ) from error


def _shards_with(
    shards: Sequence[ShardEntry], keys: Iterator[bytes], wanted: set[str]
) -> set[ShardEntry]:
    """Return the shards that hold a wanted key.

    :raises ValueError: the keys are not as many as the rows of the shards.
    """
    encoded = {key.encode(errors="replace") for key in wanted}
    needed, count = set(), 0
    for shard in shards:
        here = 0
        for key in islice(keys, shard.rows):
            here += 1
            if key in encoded:
                needed.add(shard)
        count += here
        if here < shard.rows:
            break
    rows = sum(shard.rows for shard in shards)
    more = sum(1 for _ in keys)
    if count + more != rows:
        raise ValueError(f"{count + more} keys, {rows} vectors")
    return needed
