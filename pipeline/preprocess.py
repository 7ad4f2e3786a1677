"""The first stage: a captioned picture collection to a feature cache."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from data.annotations import Collection, read_collection
from data.atomic import write_json
from data.cache import CacheWriter, check_split_name, write_cache
from data.captions import Captions, encode_captions, load_captions
from data.entry import Entry, check_entry
from data.errors import DataError, VocabularyError
from data.heldout import HELD_OUT, HeldOut, hold_out, read_split_file
from data.language.pairs import Pair
from data.pictures import NO_FILE
from data.vocabulary import SPECIALS, Vocabulary, build_vocabulary
from model.backbone import Backbone, load_backbone
from model.device import choose_device, choose_precision
from pipeline.errors import OptionError, PipelineError
from pipeline.extract import Elsewhere, changed_pictures, extract

TRAIN = "train"


@dataclass(frozen=True)
class PreprocessOptions:
    """What `preprocess` is asked for. ``None`` means: as the cache has it, or the default."""

    annotations: Path
    cache: Path
    images: Path | None = None
    split: str | None = None
    backbone: str | None = None  # resnet50
    weights: str | None = None  # imagenet
    resize: int | None = None  # the weights' own
    crop: int | None = None
    tokenizer: str | None = None  # whitespace
    min_count: int | None = None  # 10
    shard_size: int = 4096
    dtype: str = "float16"
    device: str = "auto"
    precision: str = "auto"
    workers: int | None = None
    captions_only: bool = False
    hold_out: Sequence[str] = ()  # pairs such as "black dog"; none means: as the cache has it
    hold_out_split: Path | None = None
    ray: str | None = None  # auto or HOST:PORT; None extracts in this process

    def __post_init__(self) -> None:
        for pair in self.hold_out:
            try:
                Pair.parse(pair)
            except DataError as error:
                raise OptionError(f"--hold-out: {error}") from error
        if self.hold_out and self.hold_out_split is not None:
            raise OptionError(
                "give either --hold-out or --hold-out-split, whose file has its pairs"
            )
        if self.captions_only == (self.images is not None):
            raise OptionError("give either --images DIR or --captions-only")
        if self.captions_only and self.ray is not None:
            raise OptionError(f"--ray {self.ray}: of no use with --captions-only")
        if self.images is not None and not self.images.is_dir():
            raise OptionError(f"--images {self.images}: not a folder")
        if self.shard_size < 1:
            raise OptionError(f"--shard-size {self.shard_size}: it must be at least 1")
        if self.min_count is not None and self.min_count < 1:
            raise OptionError(f"--min-count {self.min_count}: it must be at least 1")
        if self.workers is not None and self.workers < 1:
            raise OptionError(f"--workers {self.workers}: it must be at least 1")


@dataclass
class Summary:
    """What `preprocess` did. ``skipped`` maps a kind of fault to a line for each input."""

    format: str
    skipped_file: Path
    words: int = 0
    vocabulary_made: bool = False
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    added: int = 0
    vectors: int = 0
    skipped: dict[str, list[str]] = field(default_factory=dict)
    held_out: dict[str, dict[str, int]] = field(default_factory=dict)  # pair: split: pictures
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "skipped_file": str(self.skipped_file)}


def preprocess(options: PreprocessOptions) -> Summary:
    """Read annotations, make or reuse the vocabulary, encode captions, extract features.

    :raises OptionError: options contradict what the cache already holds.
    """
    collection = read_collection(options.annotations, options.split)
    with _elsewhere(options) as elsewhere, write_cache(options.cache) as writer:
        collection = _with_split(collection, writer)
        summary = Summary(
            collection.format, options.cache / "skipped.json", notes=list(collection.notes)
        )
        for problem in collection.problems:
            summary.skipped.setdefault(problem.kind, []).append(str(problem))
        backbone = None if options.captions_only else _backbone(options, writer)
        collection, held = _hold_out(collection, options, writer, summary)
        vocabulary = _vocabulary(collection, options, writer, summary, held)
        _encode(collection, vocabulary, writer, summary, held)
        if backbone is not None:
            _extract(collection, backbone, options, writer, summary, elsewhere)
        if summary.skipped:
            write_json(summary.skipped_file, summary.skipped)
        else:
            summary.skipped_file.unlink(missing_ok=True)
    return summary


@contextmanager
def _elsewhere(options: PreprocessOptions) -> Iterator[Elsewhere | None]:
    """Connect to the cluster, if one is asked for."""
    if options.ray is None:
        yield None
        return
    from pipeline.cluster import connect  # Ray is an extra, and slow to import

    with connect(options.ray, options.workers) as cluster:
        yield cluster.extract


def _with_split(collection: Collection, writer: CacheWriter) -> Collection:
    """Give pictures without a split one: the first collection of a cache is for training."""
    if not any(picture.split is None for picture in collection.pictures):
        for split in collection.splits:
            check_split_name(split)
        return collection
    if writer.manifest.vocabulary is not None:
        raise OptionError(f"{collection.source}: says nothing of its split; give --split NAME")
    return replace(
        collection,
        pictures=tuple(replace(p, split=p.split or TRAIN) for p in collection.pictures),
        notes=(*collection.notes, f"taken as split {TRAIN!r}, the first of its cache"),
    )


def _backbone(options: PreprocessOptions, writer: CacheWriter) -> Backbone:
    """Load the backbone: what the command says, else what the cache was made with."""
    held = writer.manifest.spec
    transform = held.transform if held else None
    if held is not None and transform is None:
        raise OptionError(
            f"{writer.root}: its vectors were {held.origin}; no others can be added to them: "
            "give --captions-only, or use another --cache"
        )
    device = choose_device(options.device)
    return load_backbone(
        options.backbone or (held.architecture if held else "resnet50"),
        options.weights or (held.weights if held else "imagenet"),
        device=device,
        precision=choose_precision(options.precision, device),
        resize=options.resize or (transform.resize if transform else None),
        crop=options.crop or (transform.crop if transform else None),
    )


def _hold_out(
    collection: Collection, options: PreprocessOptions, writer: CacheWriter, summary: Summary
) -> tuple[Collection, HeldOut | None]:
    """Move pictures out of training: what the command says, else what the cache was made with."""
    asked, ids = None, None
    if options.hold_out_split is not None:
        asked, ids = read_split_file(options.hold_out_split)
    elif pairs := options.hold_out or collection.held_out:
        asked = HeldOut(tuple(pairs))
    if entries := writer.manifest.captions:
        entry = entries.get(TRAIN) or next(iter(entries.values()))
        held = _captions(writer, entry).held_out
        if (asked or held) != held or (held and held.split_file and ids is None):
            raise OptionError(
                f"{writer.root}: was made with {held or 'nothing'} held out, asked for is "
                f"{asked or 'no split file'}; give the same, or use another --cache"
            )
        asked = held
    if asked is None:
        return collection, None
    moved, summary.held_out = hold_out(collection, asked, ids)
    if ids is not None and HELD_OUT.keys() & set(collection.splits) and moved == collection:
        raise OptionError(
            f"{options.hold_out_split}: none of its pictures is in {collection.source}; "
            "give the annotations of MS-COCO, whose ids it has"
        )
    if collection.split(TRAIN) and not moved.split(TRAIN):
        raise OptionError(
            f"{collection.source}: every training picture shows {asked}; hold out less"
        )
    return moved, asked


def _captions(writer: CacheWriter, entry: Entry) -> Captions:
    return load_captions(check_entry(writer.root, entry), None)


def _vocabulary(
    collection: Collection,
    options: PreprocessOptions,
    writer: CacheWriter,
    summary: Summary,
    held: HeldOut | None,
) -> Vocabulary:
    entry = writer.manifest.vocabulary
    if held and not writer.manifest.captions and collection.split(TRAIN):
        entry = None  # of a run that was killed, which may have held out something else
    if entry is not None:
        vocabulary = Vocabulary.load(check_entry(writer.root, entry))
        for name, asked, made in (
            ("--tokenizer", options.tokenizer, vocabulary.tokenizer),
            ("--min-count", options.min_count, vocabulary.min_count),
        ):
            if asked is not None and asked != made:
                raise OptionError(
                    f"{name} {asked}: the vocabulary of {writer.root} was made with {made}; "
                    "use another --cache"
                )
    else:
        training = collection.split(TRAIN)
        if not training:
            raise VocabularyError(
                f"{collection.source}: the vocabulary is made from training captions and this has "
                f"none; preprocess the training split first, or give --split {TRAIN}"
            )
        vocabulary = build_vocabulary(
            (caption for picture in training for caption in picture.captions),
            options.tokenizer or "whitespace",
            options.min_count or 10,
            collection.digest,
        )
        writer.put_vocabulary(vocabulary)
        summary.vocabulary_made = True
    summary.words = len(vocabulary) - len(SPECIALS)
    return vocabulary


def _encode(
    collection: Collection,
    vocabulary: Vocabulary,
    writer: CacheWriter,
    summary: Summary,
    held: HeldOut | None,
) -> None:
    for split in collection.splits:
        pictures = collection.split(split)
        captions = encode_captions(pictures, split, vocabulary, collection.digest, held)
        entry = writer.manifest.captions.get(split) if split in HELD_OUT.values() else None
        if entry and _captions(writer, entry).keys != captions.keys:
            raise OptionError(
                f"{writer.root}: its split {split!r} has other pictures than that of "
                f"{collection.source}; give this one another name (--split NAME)"
            )
        writer.put_captions(captions)
        summary.splits[split] = {
            "pictures": captions.pictures,
            "captions": len(captions.texts),
            "tokens": len(captions.tokens),
            "unknown": captions.unknown_share,
        }


def _extract(
    collection: Collection,
    backbone: Backbone,
    options: PreprocessOptions,
    writer: CacheWriter,
    summary: Summary,
    elsewhere: Elsewhere | None,
) -> None:
    assert options.images is not None
    files = {picture.key: options.images / picture.key for picture in collection.pictures}
    if changed := changed_pictures(writer, files):
        raise PipelineError(
            f"{changed[0]}: its bytes are not those that {writer.root} was made from "
            f"({len(changed)} such pictures); restore them, or use another --cache"
        )
    missing = {key: path for key, path in files.items() if key not in writer.digests}
    before = len(writer.digests)
    extract(
        writer,
        missing,
        backbone,
        dtype=options.dtype,
        shard_size=options.shard_size,
        workers=options.workers,
        elsewhere=elsewhere,
    )
    summary.added = len(writer.digests) - before
    summary.vectors = len(writer.digests)
    failures = writer.manifest.failures
    for key in files:
        if reason := failures.get(key):
            kind = "missing picture" if reason == NO_FILE else "unreadable picture"
            summary.skipped.setdefault(kind, []).append(f"{key}: {reason}")
    for split, counts in summary.splits.items():
        counts["with_vectors"] = sum(p.key in writer.digests for p in collection.split(split))
