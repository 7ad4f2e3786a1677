"""Preprocessing: a captioned image collection becomes a feature cache."""

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from multispace.data.annotations import Collection
from multispace.data.cache.format.manifest import NAME
from multispace.data.cache.reader import Cache
from multispace.data.cache.writer import CacheWriter, check_split_name, write_cache
from multispace.data.captions.encoded_captions import encode_captions
from multispace.data.captions.vocabulary import SPECIALS, Vocabulary, build_vocabulary
from multispace.data.held_out import HELD_OUT_SPLITS
from multispace.data.image_folder import LocatedImages
from multispace.errors import OptionError, PipelineError, VocabularyError
from multispace.model.backbone.resnet import Backbone
from multispace.pipeline.command_options.preprocess_options import (
    MIN_COUNT,
    TOKENIZER,
    PreprocessOptions,
)
from multispace.pipeline.extraction.extract import RemoteExtraction, changed_images, extract
from multispace.pipeline.preparation.backbone_choice import chosen_backbone
from multispace.pipeline.preparation.exclusions import (
    TRAIN,
    Exclusion,
    captions_of,
    exclude_pairs,
)
from multispace.pipeline.preparation.inputs import (
    check_found,
    find_files,
    missing_notes,
    part_notes,
    read_input,
    record_random_splits,
    unavailable,
    unmatched_notes,
)
from multispace.pipeline.preparation.skipped_inputs import skipped_inputs, write_skipped
from multispace.pipeline.preparation.summary import SplitSummary, Summary

MIN_WORDS = 2  # on average, below which captions are suspicious
Caches = Sequence[tuple[CacheWriter, Backbone]]


@dataclass(frozen=True)
class _Encoded:
    """The vocabulary and encoded captions of one cache."""

    exclusion: Exclusion
    words: int
    vocabulary_made: bool
    splits: dict[str, SplitSummary]


@dataclass(frozen=True)
class _Features:
    """Result of an extraction: counts over all caches, and what failed in the first.

    :param keys: images that have features in the first cache
    """

    keys: frozenset[str] = frozenset()
    added: int = 0
    vectors: int = 0
    failures: Mapping[str, str] = field(default_factory=dict)


def preprocess(options: PreprocessOptions) -> Summary:
    """Read annotations, make or reuse the vocabulary, encode captions, extract features.

    :raises OptionError: options contradict what the cache already holds.
    """
    collection = read_input(options)
    located = find_files(options, collection)
    if not any((root / NAME).exists() for root in options.caches.values()):
        check_found(options, located)  # before a cache is made
    with ExitStack() as stack:
        remote = stack.enter_context(_remote_extraction(options))
        writers = {
            name: stack.enter_context(write_cache(root)) for name, root in options.caches.items()
        }
        first = next(iter(writers.values()))
        collection = _with_split(collection, first)
        check_found(options, located, first.digests)
        # Backbones come first, so that wrong weights leave no captions behind.
        caches = [
            (writer, chosen_backbone(options, writer.manifest.spec, name))
            for name, writer in writers.items()
            if not options.captions_only
        ]
        record_random_splits(options, collection)
        # All parts have the same captions: what this machine lacks, another one may have.
        whole = options.image_part is None
        left_out = unavailable(located, first.digests) if whole else frozenset()
        encoded = [_encode(collection, options, writer, left_out) for writer in writers.values()]
        features = _extract(located, left_out, caches, options, remote) if located else None
        notes = (
            *collection.notes,
            *(backbone.note for _, backbone in caches if backbone.note),
            *part_notes(options, collection, located),
            *missing_notes(options, located),
            *unmatched_notes(collection, first),
            *_few_words(encoded[-1]),
        )
        summary = _summary(
            replace(collection, notes=notes), encoded, features, left_out, options.cache
        )
        write_skipped(summary.skipped_file, summary.skipped)
    return summary


@contextmanager
def _remote_extraction(options: PreprocessOptions) -> Iterator[RemoteExtraction | None]:
    """Connect to the Ray cluster, if one is requested."""
    if options.ray is None:
        yield None
        return
    from multispace.pipeline.extraction.ray_cluster import connect

    with connect(options.ray, options.workers) as cluster:
        yield cluster.extract


def _with_split(collection: Collection, writer: CacheWriter) -> Collection:
    """Assign images without a split to training, if the collection is the cache's first."""
    if not any(image.split is None for image in collection.images):
        for split in collection.splits:
            check_split_name(split)
        return collection
    if writer.manifest.vocabulary is not None:
        raise OptionError(
            "names no split", where=collection.source, hint="give --split NAME or --split-list"
        )
    return replace(
        collection,
        images=tuple(replace(image, split=image.split or TRAIN) for image in collection.images),
        notes=(
            *collection.notes,
            f"read as split {TRAIN!r}, because it is the cache's first; give --make-splits "
            "80,10,10 to set validation and test images apart",
        ),
    )


def _encode(
    collection: Collection,
    options: PreprocessOptions,
    writer: CacheWriter,
    left_out: Container[str],
) -> _Encoded:
    """Make or reuse the vocabulary of a cache, and encode the captions with it.

    :param left_out: keys of images whose captions count for the vocabulary alone
    """
    exclusion = exclude_pairs(collection, writer, options.hold_out, options.hold_out_split)
    vocabulary = _stored_vocabulary(exclusion, options, writer)
    made = vocabulary is None
    if vocabulary is None:
        vocabulary = _made_vocabulary(exclusion.collection, options)
        writer.put_vocabulary(vocabulary)
    available = tuple(p for p in exclusion.collection.images if p.key not in left_out)
    exclusion = replace(exclusion, collection=replace(exclusion.collection, images=available))
    splits = {
        split: _encode_split(exclusion, split, vocabulary, writer)
        for split in exclusion.collection.splits
    }
    return _Encoded(exclusion, len(vocabulary) - len(SPECIALS), made, splits)


def _stored_vocabulary(
    exclusion: Exclusion, options: PreprocessOptions, writer: CacheWriter
) -> Vocabulary | None:
    """Return the vocabulary of the cache, if it has one.

    :raises OptionError: it was made with another tokenizer or minimum count.
    """
    entry = writer.manifest.vocabulary
    if exclusion.held_out and not writer.manifest.captions and exclusion.collection.split(TRAIN):
        return None  # left by a killed run, which may have held out something else
    if entry is None:
        return None
    vocabulary = Cache(writer.root, writer.manifest).vocabulary()
    for name, asked, made in (
        ("--tokenizer", options.tokenizer, vocabulary.tokenizer),
        ("--min-count", options.min_count, vocabulary.min_count),
    ):
        if asked is not None and asked != made:
            raise OptionError(
                f"the vocabulary of {writer.root} was made with {made}",
                where=f"{name} {asked}",
                hint="use another --cache",
            )
    return vocabulary


def _made_vocabulary(collection: Collection, options: PreprocessOptions) -> Vocabulary:
    """Make a vocabulary of the training captions.

    :raises VocabularyError: there are none.
    """
    training = collection.split(TRAIN)
    if not training:
        one_split = collection.format == "coco"  # whose name --split gives
        relabel = f"--split {TRAIN}" if one_split else f"--split-list {TRAIN}=FILE"
        raise VocabularyError(
            "the vocabulary is made from training captions, and there are none among the splits "
            f"{', '.join(collection.splits)}",
            where=collection.source,
            hint=f"preprocess the training split first, or give {relabel}",
        )
    return build_vocabulary(
        (caption for image in training for caption in image.captions),
        options.tokenizer or TOKENIZER,
        options.min_count or MIN_COUNT,
        collection.digest,
    )


def _encode_split(
    exclusion: Exclusion, split: str, vocabulary: Vocabulary, writer: CacheWriter
) -> SplitSummary:
    """Encode the captions of one split.

    :raises OptionError: they would replace a held-out split of other images.
    """
    collection = exclusion.collection
    captions = encode_captions(
        collection.split(split), split, vocabulary, collection.digest, exclusion.held_out
    )
    entry = writer.manifest.captions.get(split) if split in HELD_OUT_SPLITS.values() else None
    stored = captions_of(writer, entry) if entry else None
    # The images that this run moved are those of the earlier run, or more if files were missing.
    same = stored and stored.source_digest == captions.source_digest
    again = same and exclusion.moved.issuperset(captions.keys)
    if stored and stored.keys != captions.keys and not again:
        raise OptionError(
            f"its split {split!r} has other images than that of {collection.source}",
            where=writer.root,
            hint="give this one another name (--split NAME)",
        )
    writer.put_captions(captions)
    return SplitSummary(
        captions.images, len(captions.texts), len(captions.tokens), captions.unknown_share
    )


def _extract(
    located: LocatedImages,
    left_out: Container[str],
    caches: Caches,
    options: PreprocessOptions,
    remote: RemoteExtraction | None,
) -> _Features:
    """Extract the features that the caches do not have yet."""
    files = {key: path for key, path in located.files.items() if key not in left_out}
    _check_unchanged(caches, files)
    missing = {
        key: path
        for key, path in files.items()
        if any(key not in writer.digests for writer, _ in caches)
    }
    before = sum(len(writer.digests) for writer, _ in caches)
    (writer, backbone), *others = caches
    extract(
        writer,
        missing,
        backbone,
        others=others,
        dtype=options.dtype,
        shard_size=options.shard_size,
        workers=options.workers,
        remote=remote,
    )
    vectors = sum(len(writer.digests) for writer, _ in caches)
    failures = writer.failures
    return _Features(
        keys=frozenset(writer.digests),
        added=vectors - before,
        vectors=vectors,
        failures={key: failures[key] for key in files if key in failures},
    )


def _check_unchanged(caches: Caches, files: Mapping[str, Path]) -> None:
    """Check that the images are those that the caches' features were extracted from.

    :raises PipelineError: an image has changed.
    """
    for writer, _ in caches:
        if changed := changed_images(writer, files):
            raise PipelineError(
                f"its bytes are not those that {writer.root} was made from "
                f"({len(changed)} such images)",
                where=changed[0],
                hint="restore them, or use another --cache",
            )


def _summary(
    collection: Collection,
    encoded: Sequence[_Encoded],
    features: _Features | None,
    left_out: frozenset[str],
    folder: Path,
) -> Summary:
    last = encoded[-1]
    splits = last.splits
    if features is not None:
        splits = {
            name: replace(
                split,
                with_vectors=sum(
                    image.key in features.keys for image in last.exclusion.collection.split(name)
                ),
            )
            for name, split in splits.items()
        }
    features = features or _Features()
    return Summary(
        format=collection.format,
        skipped_file=folder / "skipped.json",
        words=last.words,
        vocabulary_made=any(each.vocabulary_made for each in encoded),
        splits=splits,
        added=features.added,
        vectors=features.vectors,
        skipped=skipped_inputs(collection.problems, features.failures, left_out),
        held_out=last.exclusion.counts,
        notes=collection.notes,
    )


def _few_words(encoded: _Encoded) -> tuple[str, ...]:
    """Return a note if captions have so few words that they may be written without blanks."""
    captions = sum(split.captions for split in encoded.splits.values())
    words = sum(split.tokens for split in encoded.splits.values()) / captions
    if words >= MIN_WORDS:
        return ()
    return (
        f"captions have {words:.1f} words on average; use --tokenizer characters (in another "
        "--cache) for text without blanks",
    )
