"""Checks, merges and imports of caches, with progress."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from multispace.data.external_vectors.import_options import ImportOptions
from multispace.data.external_vectors.vector_import import Imported, import_features
from multispace.data.maintenance.merge import Merged, merge_caches
from multispace.data.maintenance.verify import Verification, verify_cache
from multispace.pipeline.console.progress import watched


def verify(folder: Path, quick: bool) -> Verification:
    """Check a cache; see :func:`multispace.data.maintenance.verify.verify_cache`."""
    with ExitStack() as stack:
        return verify_cache(folder, quick=quick, watch=watched(stack, "verify"))


def merge(sources: Sequence[Path], into: Path, prefer: Path | None) -> Merged:
    """Merge caches; see :func:`multispace.data.maintenance.merge.merge_caches`."""
    with ExitStack() as stack:
        return merge_caches(sources, into, prefer, watched(stack, "merge", "vectors"))


def import_vectors(options: ImportOptions) -> Imported:
    """Import vectors; see :mod:`multispace.data.external_vectors.vector_import`."""
    with ExitStack() as stack:
        return import_features(options, watched(stack, "import", "vectors"))
