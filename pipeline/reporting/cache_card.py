"""The card of a cache that is pushed: Markdown with the front matter that data set hubs read."""

from collections.abc import Iterator

from multispace.data.cache.format.spec import FeatureSpec
from multispace.pipeline.cache_info import CacheInfo
from multispace.pipeline.reporting.export_tables import Table, escape_markdown
from multispace.pipeline.reporting.markdown import code, code_block, feature_table, front_matter
from multispace.version import SOFTWARE, package_version

CARD = "README.md"
MARK = "<!-- written by `multispace cache push` -->"
MAX_CARD = 1 << 20  # bytes


def cache_card(info: CacheInfo, digest: str) -> str:
    """Return the card of a cache.

    :param digest: SHA-256 (hexadecimal) of ``cache.json``
    """
    return "\n\n".join(_parts(info, digest)) + "\n"


def _parts(info: CacheInfo, digest: str) -> Iterator[str]:
    yield front_matter(
        {
            "library_name": SOFTWARE,
            "task_categories": ["image-to-text"],
            "tags": ["image-captioning", "image-features", "multispace"],
        }
    )
    yield MARK
    yield "# Feature cache"
    yield (
        f"{info.rows:,} feature vectors of images in {info.shards} shards "
        f"({info.bytes / 1e6:.1f} MB), with the captions of {len(info.splits)} splits. "
        f"{len(info.failures)} images could not be read and have no vector."
    )
    yield "## Use"
    yield f"With {SOFTWARE} {package_version()} or later (`URL` is that of this folder):"
    yield code_block("", f"multispace cache pull URL cache --digest sha256:{digest}")
    yield code_block(
        "python",
        "import multispace as ms\n\n"
        'cache = ms.open_cache("URL")\n'
        "cache.features(cache.keys)  # numpy (N, D)\n"
        'cache.dataset("train")  # a torch.utils.data.Dataset',
    )
    yield (
        "`cache.json` lists all files with their SHA-256, and a changed file is refused. The "
        f"SHA-256 of `cache.json` is {code(digest)}."
    )
    yield "## Splits"
    rows = [
        (name, f"{split.images:,}", f"{split.captions:,}", f"{split.tokens:,}",
         f"{split.unknown:.2%}")
        for name, split in info.splits.items()
    ]  # fmt: skip
    head = ("split", "images", "captions", "tokens", "outside the vocabulary")
    yield Table("", head, rows).markdown() if rows else "The cache has no captions."
    if (words := info.vocabulary) is not None:
        yield (
            f"The vocabulary has {words['words']:,} words (tokenizer {code(words['tokenizer'])}, "
            f"minimum count {words['min_count']}, SHA-256 {code(words['digest'])})."
        )
    if info.held_out:
        pairs = ", ".join(map(escape_markdown, info.held_out["pairs"]))
        yield f"Images that show these pairs are held out of training: {pairs}."
    yield "## Features"
    if info.spec is None:
        yield "The cache holds captions only."
    else:
        yield feature_table(FeatureSpec.from_json(dict(info.spec), str(info.cache)))
        yield "Caches can be merged if they have the same fingerprint."
