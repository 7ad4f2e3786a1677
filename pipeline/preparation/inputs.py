"""The inputs of `preprocess`: the annotated collection and the files of its images."""

from collections.abc import Container
from typing import Any

from multispace.data.annotations import Collection, read_collection
from multispace.data.cache.format.spec import EXTRACTED
from multispace.data.cache.writer import CacheWriter
from multispace.data.documents import DocumentFormat
from multispace.data.external_vectors.missing_vectors import missing_note
from multispace.data.files import write_json
from multispace.data.image_folder import LocatedImages, locate_images
from multispace.errors import CacheError, OptionError, PipelineError
from multispace.pipeline.command_options.preprocess_options import PreprocessOptions

MAX_RECORDED = 1000  # missing images that a cache records one by one
RANDOM_SPLITS = "splits.json"  # in the cache: how random splits were made
_RANDOM_SPLITS = DocumentFormat(error=CacheError, hint="restore the file, or use another --cache")


def read_input(options: PreprocessOptions) -> Collection:
    """Read the annotations that the options name, with the splits that they ask for."""
    return read_collection(
        options.annotations,
        options.split,
        split_lists=options.split_lists,
        random_splits=options.percentages,
        seed=options.seed,
    )


def find_files(options: PreprocessOptions, collection: Collection) -> LocatedImages | None:
    """Find the image files of a collection, or of the part that is to be extracted.

    Return None if no features are to be extracted.
    """
    if options.images is None:
        return None
    keys = [image.key for image in collection.images]
    if options.image_part is not None:
        keys = options.image_part.of(keys)
    return locate_images(options.images, keys, match_names=options.match_names)


def check_found(
    options: PreprocessOptions, located: LocatedImages | None, known: Container[str] = ()
) -> None:
    """Check that the image folder has at least one image.

    :param known: keys of images that have features already
    :raises PipelineError: it has none, and no image has features.
    """
    if located is None or len(located.missing) < len(located.files) or not located.files:
        return
    if not any(key in known for key in located.files):
        raise PipelineError(
            f"has none of the {len(located.files)} images of {options.annotations}: "
            f"{'; '.join(located.reasons)}",
            where=f"--images {options.images}",
            hint=_hint(options, located),
        )


def unavailable(located: LocatedImages | None, known: Container[str]) -> frozenset[str]:
    """Return the images that are left out because very many have no file.

    A cache records each image that failed. Of a collection whose images are mostly elsewhere, it
    holds only the others, and the missing images are counted.

    :param known: keys of images that have features already
    """
    if located is None or len(located.missing) <= MAX_RECORDED:
        return frozenset()
    return frozenset(key for key in located.missing if key not in known)


def part_notes(
    options: PreprocessOptions, collection: Collection, located: LocatedImages | None
) -> tuple[str, ...]:
    """Return a note about the part of the images that is extracted, if it is not all of them."""
    if options.image_part is None or located is None:
        return ()
    count = len({image.key for image in collection.images})
    return (
        f"part {options.image_part}: {len(located.files)} of {count} images; vocabulary and "
        "captions are those of all images",
    )


def missing_notes(options: PreprocessOptions, located: LocatedImages | None) -> tuple[str, ...]:
    """Return notes about images that are in the folder under other names."""
    if located is None or not located.renamed:
        return ()
    reasons = "; ".join(located.reasons)
    return (f"{len(located.missing)} images have no file: {reasons}; {_hint(options, located)}",)


def unmatched_notes(collection: Collection, writer: CacheWriter) -> tuple[str, ...]:
    """Return a note if captions are added to imported vectors that have other names."""
    spec = writer.manifest.spec
    if spec is None or spec.origin == EXTRACTED:  # missing vectors can still be extracted
        return ()
    note = missing_note([image.key for image in collection.images], writer.digests)
    return (note,) if note else ()


def record_random_splits(options: PreprocessOptions, collection: Collection) -> None:
    """Record in the cache how random splits were made.

    :raises OptionError: the cache has other random splits.
    """
    if options.percentages is None:
        return
    record: dict[str, Any] = {
        "annotations_sha256": collection.digest,
        "percentages": list(options.percentages),
        "seed": options.seed,
        "images": {split: len(collection.split(split)) for split in collection.splits},
    }
    path = options.cache / RANDOM_SPLITS
    if path.exists():
        if _RANDOM_SPLITS.read_json(path) != record:
            raise OptionError(
                f"{path} records splits of other annotations, percentages or seed",
                where=f"--make-splits {options.make_splits} --seed {options.seed}",
                hint="give the same, or use another --cache",
            )
        return
    write_json(path, record)


def _hint(options: PreprocessOptions, located: LocatedImages) -> str:
    if located.renamed and not options.match_names:
        return "give --match-names to use these files"
    return "give the folder of these images"
