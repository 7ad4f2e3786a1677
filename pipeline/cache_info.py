"""What a cache holds, without reading a single vector."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from multispace.data.cache.reader import Cache
from multispace.data.captions.encoded_captions import Captions
from multispace.data.captions.vocabulary import Vocabulary
from multispace.errors import brief
from multispace.long_lists import first_lines
from multispace.pipeline.console.table import text_table


@dataclass(frozen=True)
class SplitInfo:
    """The captions of a split; ``unknown`` is the fraction of tokens outside the vocabulary."""

    images: int
    captions: int
    tokens: int
    unknown: float


@dataclass(frozen=True)
class CacheInfo:
    """What a cache holds: spec, shards, failures, vocabulary, splits.

    ``rows`` counts vectors and ``bytes`` the bytes of the shards; ``failures`` maps the key of an
    image without a vector to the reason. ``held_out`` says what was excluded from training.
    """

    cache: Path
    fingerprint: str | None
    spec: Mapping[str, Any] | None
    shards: int
    rows: int
    bytes: int
    failures: Mapping[str, str]
    vocabulary: Mapping[str, Any] | None
    splits: Mapping[str, SplitInfo]
    held_out: Mapping[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        splits = {}
        for name, split in self.splits.items():
            counts = asdict(split)
            splits[name] = {"pictures": counts.pop("images"), **counts}
        return {**asdict(self), "cache": str(self.cache), "splits": splits}

    def render(self) -> str:
        """Return the counts, the spec, the vocabulary, a table of the splits, and the failures."""
        lines = [
            f"{self.rows} vectors in {self.shards} shards, {self.bytes / 1e6:.1f} MB, "
            f"{len(self.failures)} images failed"
        ]
        lines += [f"  {name:16}{brief(value)}" for name, value in (self.spec or {}).items()]
        lines.append(f"  {'fingerprint':16}{self.fingerprint}")
        lines += [
            f"vocabulary {name}: {brief(value)}" for name, value in (self.vocabulary or {}).items()
        ]
        lines.append(
            text_table(
                ["split", "images", "captions", "tokens", "unknown"],
                [
                    [brief(name), s.images, s.captions, s.tokens, f"{s.unknown:.2%}"]
                    for name, s in self.splits.items()
                ],
            )
        )
        if self.held_out:
            pairs = ", ".join(map(brief, self.held_out["pairs"]))
            lines.append(f"held out of training: {pairs}")
        lines += first_lines(
            [f"failed: {brief(key)}: {brief(reason)}" for key, reason in self.failures.items()]
        )
        return "\n".join(lines)


def cache_info(root: Path) -> CacheInfo:
    """Describe the cache at ``root``.

    :raises DataError: its manifest, vocabulary or captions are damaged.
    """
    cache = Cache.open(root)
    manifest = cache.manifest
    vocabulary = cache.vocabulary() if manifest.vocabulary else None
    captions = {split: cache.captions(split) for split in manifest.captions}
    held_out = [split.held_out for split in captions.values() if split.held_out]
    return CacheInfo(
        cache=root,
        fingerprint=manifest.spec.fingerprint if manifest.spec else None,
        spec=manifest.spec.to_json() if manifest.spec else None,
        shards=len(manifest.shards),
        rows=manifest.rows,
        bytes=sum(shard.bytes for shard in manifest.shards),
        failures=dict(cache.failures),
        vocabulary=_vocabulary_info(vocabulary) if vocabulary else None,
        splits={split: _split_info(held) for split, held in captions.items()},
        held_out=held_out[-1].to_json() if held_out else None,
    )


def _vocabulary_info(vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "words": len(vocabulary),
        "tokenizer": vocabulary.tokenizer,
        "min_count": vocabulary.min_count,
        "digest": vocabulary.digest,
    }


def _split_info(captions: Captions) -> SplitInfo:
    return SplitInfo(
        images=captions.images,
        captions=len(captions.texts),
        tokens=len(captions.tokens),
        unknown=captions.unknown_share,
    )
