"""Caches from one place to another: push to a URL, pull from one.

What is pulled is checked against the manifest before it gets its name, and the manifest is
written last, on both ways: whoever finds a manifest finds what it lists.
"""

import hashlib
import os
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from multispace.data.cache.encoded_captions import load_captions
from multispace.data.cache.keys import parse_key_list
from multispace.data.cache.manifest import (
    NAME,
    Manifest,
    parse_manifest,
    read_manifest,
    write_manifest,
)
from multispace.data.cache.shard import ShardEntry
from multispace.data.cache.vocabulary import Vocabulary
from multispace.data.cache.writer import lock_cache
from multispace.data.files import remove_partial
from multispace.data.remote.downloads import Watch, fetch_all
from multispace.data.remote.store import Store
from multispace.errors import CacheError, DamagedFileError

THREADS = 8
MAX_MANIFEST = 64 << 20  # bytes; a million failures fit


@dataclass(frozen=True)
class Transferred:
    """What was done.

    ``digest`` is the SHA-256 of the source's ``cache.json``; after a partial pull (``whole`` is
    false) the folder's own is another. ``sent`` names the files that went over, of ``bytes``
    in all; ``present`` more were there already.
    """

    url: str
    folder: Path
    digest: str
    sent: tuple[str, ...]
    bytes: int
    present: int
    whole: bool = True


def pull(
    url: str,
    folder: Path,
    *,
    digest: str | None = None,
    only: str | None = None,
    threads: int = THREADS,
    watch: Watch | None = None,
) -> Transferred:
    """Fetch the cache at ``url`` into ``folder``; what is whole there already stays.

    :param digest: ``sha256:HEX`` of the ``cache.json`` that is expected.
    :param only: what of it: the name of a split (vocabulary, captions of that split, and the
        shards with its images), or a file of keys, one a line (vocabulary and shards).
    :param watch: called before the shards are fetched.
    :raises CacheError: the digest is another, ``folder`` holds another cache, or a file is
        missing, too long, or not the bytes that the manifest lists.
    """
    store = Store(url)
    content = store.read(NAME, MAX_MANIFEST)
    found = hashlib.sha256(content).hexdigest()
    if digest is not None and _hexadecimal(digest) != found:
        raise CacheError(
            f"{store.where(NAME)}: its digest is sha256:{found}, expected {digest}; "
            "ask its owner which is right"
        )
    source = parse_manifest(content, store.where(NAME), "ask its owner to push it anew")
    with lock_cache(folder):
        held = read_manifest(folder) if (folder / NAME).exists() else Manifest()
        _check_joins(folder, held, store, source)
        captions = source.captions
        if only is not None:
            captions = {split: entry for split, entry in captions.items() if split == only}
            if not captions and not Path(only).is_file():
                known = ", ".join(source.captions) or "none"
                raise CacheError(
                    f"{store.url}: no captions of split {only!r}, and no file of keys is called "
                    f"so; the splits are: {known}"
                )
        text = [*captions.values(), *([source.vocabulary] if source.vocabulary else [])]
        fetched = fetch_all(store, folder, text, threads, None)
        shards = source.shards
        if only is not None:
            wanted = _split_keys(folder, source, only) if captions else _keys_in(Path(only))
            shards = _shards_of(store, source, wanted, held.shards)
        whole = shards == source.shards
        keys = [source.keys] if source.keys and whole else []
        fetched += fetch_all(store, folder, [*shards, *keys], threads, watch)
        manifest = replace(
            source,
            spec=source.spec or held.spec,
            shards=shards,
            vocabulary=source.vocabulary or held.vocabulary,
            captions={**held.captions, **captions},
            keys=source.keys if whole else None,
        )
        for place in (folder, folder / "features", folder / "captions"):
            remove_partial(place)
        if manifest != held or not (folder / NAME).exists():
            write_manifest(folder, manifest)
    return Transferred(
        url=store.url,
        folder=folder,
        digest=found,
        sent=tuple(sorted(entry.file for entry in fetched)),
        bytes=sum(entry.bytes for entry in fetched),
        present=len(text) + len(shards) + len(keys) - len(fetched),
        whole=manifest.to_bytes() == content,
    )


def local_copy(
    where: str | Path, cache_root: Path | None = None, watch: Watch | None = None
) -> Path:
    """Return a local folder with the cache at ``where``: a path as it is, a URL pulled first.

    :param cache_root: where pulled caches are kept: by default ``$MULTISPACE_CACHE``, else
        ``multispace`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.
    :raises CacheError: see :func:`pull`.
    """
    if isinstance(where, Path) or "://" not in where:
        return Path(where)
    store = Store(where)
    if store.folder is not None:
        return store.folder
    if cache_root is None:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        cache_root = Path(os.environ.get("MULTISPACE_CACHE") or Path(home) / "multispace")
    name = re.sub(r"[^A-Za-z0-9.]+", "-", store.url.split("://", 1)[1]).strip("-.")[-80:]
    folder = cache_root / f"{name}-{hashlib.sha256(store.url.encode()).hexdigest()[:8]}"
    pull(where, folder, watch=watch)
    return folder


def _hexadecimal(digest: str) -> str:
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise CacheError(f"digest {digest!r}: expected sha256: and 64 hexadecimal digits")
    return digest.removeprefix("sha256:")


def _check_joins(folder: Path, held: Manifest, store: Store, source: Manifest) -> None:
    """Refuse a folder whose cache would lose something, or mix with another."""
    hint = "pull into another folder"
    _check_same_meaning(folder, held, store, source, hint)
    if extra := [shard.file for shard in held.shards if shard not in source.shards]:
        raise CacheError(f"{folder}: holds {extra[0]}, which {store.url} does not list; {hint}")
    both = held.vocabulary and source.vocabulary
    if both and held.vocabulary != source.vocabulary:
        raise CacheError(f"{folder}: its vocabulary is not that of {store.url}; {hint}")


def _check_same_meaning(
    folder: Path, here: Manifest, store: Store, there: Manifest, hint: str
) -> None:
    if here.spec and there.spec and here.spec.fingerprint != there.spec.fingerprint:
        raise CacheError(
            f"{folder}: its fingerprint is {here.spec.fingerprint}, that of {store.url} "
            f"{there.spec.fingerprint} ({'; '.join(here.spec.differences(there.spec))}); {hint}"
        )


def _split_keys(folder: Path, source: Manifest, split: str) -> set[str]:
    """Return the keys of a split whose captions and vocabulary are fetched."""
    vocabulary = Vocabulary.load(folder / source.vocabulary.file) if source.vocabulary else None
    return set(load_captions(folder / source.captions[split].file, vocabulary).keys)


def _keys_in(path: Path) -> set[str]:
    try:
        return set(path.read_text(encoding="utf-8").split("\n")) - {""}
    except UnicodeDecodeError as error:
        raise CacheError(f"{path}: not UTF-8 ({error}); write one key a line") from error


def _shards_of(
    store: Store, source: Manifest, wanted: set[str], held: Collection[ShardEntry]
) -> tuple[ShardEntry, ...]:
    """Return the shards that hold a wanted key, by the source's key list, and those held.

    Wanted keys without a vector are no fault here: captions name images that failed, too.
    """
    if source.keys is None:
        raise CacheError(
            f"{store.url}: lists no keys, so which shards are needed cannot be known; "
            "pull the whole cache"
        )
    where = store.where(source.keys.file)
    content = store.read(source.keys.file, source.keys.bytes)
    if hashlib.sha256(content).hexdigest() != source.keys.sha256:
        raise DamagedFileError(f"{where}: not the bytes that {NAME} lists; pull the whole cache")
    keys = parse_key_list(content)
    if len(keys) != source.rows:
        raise CacheError(f"{where}: {len(keys)} keys, {source.rows} rows; pull the whole cache")
    if wanted.isdisjoint(keys):
        raise CacheError(f"{store.url}: has a vector of none of the {len(wanted)} images wanted")
    needed, start = [], 0
    for shard in source.shards:
        if shard in held or not wanted.isdisjoint(keys[start : start + shard.rows]):
            needed.append(shard)
        start += shard.rows
    return tuple(needed)
