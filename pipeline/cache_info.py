"""What a cache holds, without reading a single vector."""

from pathlib import Path
from typing import Any

from multispace.data.cache.reader import Cache


def cache_info(root: Path) -> dict[str, Any]:
    """Describe the cache at ``root``: spec, shards, failures, vocabulary, splits.

    :raises DataError: its manifest, vocabulary or captions are damaged.
    """
    cache = Cache.open(root)
    manifest = cache.manifest
    vocabulary = cache.vocabulary() if manifest.vocabulary else None
    splits, held_out = {}, None
    for split in manifest.captions:
        captions = cache.captions(split)
        held_out = captions.held_out or held_out
        splits[split] = {
            "pictures": captions.images,
            "captions": len(captions.texts),
            "tokens": len(captions.tokens),
            "unknown": captions.unknown_share,
        }
    return {
        "cache": str(root),
        "fingerprint": manifest.spec.fingerprint if manifest.spec else None,
        "spec": manifest.spec.to_json() if manifest.spec else None,
        "shards": len(manifest.shards),
        "rows": manifest.rows,
        "bytes": sum(shard.bytes for shard in manifest.shards),
        "failures": dict(manifest.failures),
        "vocabulary": vocabulary
        and {
            "words": len(vocabulary),
            "tokenizer": vocabulary.tokenizer,
            "min_count": vocabulary.min_count,
            "digest": vocabulary.digest,
        },
        "splits": splits,
        "held_out": held_out and held_out.to_json(),
    }
