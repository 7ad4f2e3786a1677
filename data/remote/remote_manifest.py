"""The manifest of a cache in a store, and whether it fits that of a folder."""

from pathlib import Path

from multispace.data.cache.format import manifest_reader
from multispace.data.cache.format.manifest import NAME, Manifest
from multispace.data.cache.format.manifest_reader import parse_manifest
from multispace.data.remote.store import Store
from multispace.errors import CacheError


def fetch_manifest(store: Store, hint: str) -> tuple[bytes, Manifest]:
    """Return the bytes of ``cache.json`` in a store, and what they say.

    :param hint: what to do if it is damaged; for messages
    :raises CacheError: it is missing, too long, or damaged.
    """
    content = store.read(NAME, manifest_reader.MAX_BYTES)
    return content, parse_manifest(content, store.where(NAME), hint)


def check_same_fingerprint(
    folder: Path, here: Manifest, store: Store, there: Manifest, hint: str
) -> None:
    """Check that the vectors of a folder and of a store were made alike.

    :raises CacheError: they were not; names the fields that differ.
    """
    if here.spec and there.spec and here.spec.fingerprint != there.spec.fingerprint:
        raise CacheError(
            f"its fingerprint is {here.spec.fingerprint}, that of {store.url} "
            f"{there.spec.fingerprint} ({'; '.join(here.spec.differences(there.spec))})",
            where=folder,
            hint=hint,
        )


def first_missing(shards: Manifest, among: Manifest) -> str | None:
    """Return the first shard of one manifest that another does not list, if any.

    The versions of the two may differ.
    """
    listed = {(shard.file, shard.sha256) for shard in among.shards}
    return next((s.file for s in shards.shards if (s.file, s.sha256) not in listed), None)
