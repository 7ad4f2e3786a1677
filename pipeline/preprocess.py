"""The first stage: a captioned image collection to a feature cache."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from multispace.data.annotations import Collection, read_collection
from multispace.data.cache.encoded_captions import encode_captions
from multispace.data.cache.listed_file import check_entry
from multispace.data.cache.spec import FeatureSpec
from multispace.data.cache.vocabulary import SPECIALS, Vocabulary, build_vocabulary
from multispace.data.cache.writer import CacheWriter, check_split_name, write_cache
from multispace.data.files import write_json
from multispace.data.held_out import HELD_OUT, HeldOut
from multispace.data.images import NO_FILE
from multispace.data.language.pairs import Pair
from multispace.errors import DataError, OptionError, PipelineError, VocabularyError
from multispace.model.backbone.compilation import compile_backbone, repays
from multispace.model.backbone.resnet import ARCHITECTURES, POOLING, Backbone, load_backbone
from multispace.model.device import choose_device, choose_precision
from multispace.pipeline.extraction.extract import MIRRORED, Elsewhere, changed_images, extract
from multispace.pipeline.extraction.workers import batch_size
from multispace.pipeline.preparation.exclusions import TRAIN, captions_of, held_out_of


@dataclass(frozen=True)
class PreprocessOptions:
    """What `preprocess` is asked for. ``None`` means: as the cache has it, or the default."""

    annotations: Path
    cache: Path
    images: Path | None = None
    split: str | None = None
    backbone: str | None = None  # resnet50; several, separated by commas, make a cache each
    weights: str | None = None  # imagenet
    resize: int | None = None  # the weights' own
    crop: int | None = None
    pool: str | None = None  # average
    flip: bool | None = None
    tokenizer: str | None = None  # whitespace
    min_count: int | None = None  # 10
    shard_size: int = 4096
    dtype: str = "float16"
    device: str = "auto"
    precision: str = "auto"
    compile: str = "auto"
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
        if len(self.caches) > 1 and (odd := self.caches.keys() - set(ARCHITECTURES)):
            raise OptionError(f"--backbone {min(map(str, odd))}: use {', '.join(ARCHITECTURES)}")
        if len(self.caches) > 1 and (self.captions_only or self.ray is not None):
            raise OptionError(f"--backbone {self.backbone}: one only with --captions-only or --ray")
        if self.images is not None and not self.images.is_dir():
            raise OptionError(f"--images {self.images}: not a folder")
        if self.compile not in ("auto", "on", "off"):
            raise OptionError(f"--compile {self.compile}: use auto, on or off")
        if self.shard_size < 1:
            raise OptionError(f"--shard-size {self.shard_size}: it must be at least 1")
        if self.min_count is not None and self.min_count < 1:
            raise OptionError(f"--min-count {self.min_count}: it must be at least 1")
        if self.workers is not None and self.workers < 1:
            raise OptionError(f"--workers {self.workers}: it must be at least 1")

    @property
    def caches(self) -> dict[str | None, Path]:
        """The cache of each backbone: ``cache`` itself, or of several one folder each in it."""
        names = (self.backbone or "").split(",")
        if len(names) == 1:
            return {self.backbone: self.cache}
        return {name: self.cache / name for name in names}


@dataclass
class Summary:
    """What `preprocess` did; of several caches ``vectors`` and ``added`` count all.

    ``skipped`` maps a kind of fault to a line for each input.
    """

    format: str
    skipped_file: Path
    words: int = 0
    vocabulary_made: bool = False
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    added: int = 0
    vectors: int = 0
    skipped: dict[str, list[str]] = field(default_factory=dict)
    held_out: dict[str, dict[str, int]] = field(default_factory=dict)  # pair: split: images
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "skipped_file": str(self.skipped_file)}


def preprocess(options: PreprocessOptions) -> Summary:
    """Read annotations, make or reuse the vocabulary, encode captions, extract features.

    :raises OptionError: options contradict what the cache already holds.
    """
    collection = read_collection(options.annotations, options.split)
    with ExitStack() as stack:
        elsewhere = stack.enter_context(_elsewhere(options))
        writers = {
            name: stack.enter_context(write_cache(root)) for name, root in options.caches.items()
        }
        collection = _with_split(collection, next(iter(writers.values())))
        summary = Summary(
            collection.format, options.cache / "skipped.json", notes=list(collection.notes)
        )
        for problem in collection.problems:
            summary.skipped.setdefault(problem.kind, []).append(str(problem))
        filled = [
            (writer, chosen_backbone(options, writer.manifest.spec, name))
            for name, writer in writers.items()
            if not options.captions_only
        ]
        whole = collection
        for writer in writers.values():
            collection, held, summary.held_out = held_out_of(
                whole, writer, options.hold_out, options.hold_out_split
            )
            vocabulary = _vocabulary(collection, options, writer, summary, held)
            _encode(collection, vocabulary, writer, summary, held)
        if filled:
            _extract(collection, filled, options, summary, elsewhere)
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
    from multispace.pipeline.extraction.ray_cluster import connect

    with connect(options.ray, options.workers) as cluster:
        yield cluster.extract


def _with_split(collection: Collection, writer: CacheWriter) -> Collection:
    """Give images without a split one: the first collection of a cache is for training."""
    if not any(image.split is None for image in collection.images):
        for split in collection.splits:
            check_split_name(split)
        return collection
    if writer.manifest.vocabulary is not None:
        raise OptionError(f"{collection.source}: says nothing of its split; give --split NAME")
    return replace(
        collection,
        images=tuple(replace(p, split=p.split or TRAIN) for p in collection.images),
        notes=(*collection.notes, f"taken as split {TRAIN!r}, the first of its cache"),
    )


def chosen_backbone(
    options: PreprocessOptions, held: FeatureSpec | None, name: str | None
) -> Backbone:
    """Load the backbone: what the command says, else what the cache was made with.

    :param held: the spec of the cache's vectors.
    :param name: the architecture that the command names for the cache.
    :raises OptionError: no vectors can be added to those of the cache.
    """
    transform = held.transform if held else None
    if held is not None and transform is None:
        raise OptionError(
            f"{options.cache}: its vectors were {held.origin}; no others can be added to them: "
            "give --captions-only, or use another --cache"
        )
    device = choose_device(options.device)
    pool = "grid" if held and held.pooling != POOLING else "average"
    flip = held is not None and held.decode.endswith(MIRRORED)
    return load_backbone(
        name or (held.architecture if held else "resnet50"),
        options.weights or (held.weights if held else "imagenet"),
        device=device,
        precision=choose_precision(options.precision, device),
        resize=options.resize or (transform.resize if transform else None),
        crop=options.crop or (transform.crop if transform else None),
        pool=options.pool or pool,
        flip=flip if options.flip is None else options.flip,
    )


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
            (caption for image in training for caption in image.captions),
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
        images = collection.split(split)
        captions = encode_captions(images, split, vocabulary, collection.digest, held)
        entry = writer.manifest.captions.get(split) if split in HELD_OUT.values() else None
        if entry and captions_of(writer, entry).keys != captions.keys:
            raise OptionError(
                f"{writer.root}: its split {split!r} has other images than that of "
                f"{collection.source}; give this one another name (--split NAME)"
            )
        writer.put_captions(captions)
        summary.splits[split] = {
            "pictures": captions.images,
            "captions": len(captions.texts),
            "tokens": len(captions.tokens),
            "unknown": captions.unknown_share,
        }


def _extract(
    collection: Collection,
    filled: Sequence[tuple[CacheWriter, Backbone]],
    options: PreprocessOptions,
    summary: Summary,
    elsewhere: Elsewhere | None,
) -> None:
    assert options.images is not None
    files = {image.key: options.images / image.key for image in collection.images}
    missing = {}
    for writer, _ in filled:
        if changed := changed_images(writer, files):
            raise PipelineError(
                f"{changed[0]}: its bytes are not those that {writer.root} was made from "
                f"({len(changed)} such images); restore them, or use another --cache"
            )
        missing.update({key: path for key, path in files.items() if key not in writer.digests})
    before = sum(len(writer.digests) for writer, _ in filled)
    (writer, backbone), *beside = [
        (writer, _compiled(backbone, options, len(missing), summary)) for writer, backbone in filled
    ]
    extract(
        writer,
        missing,
        backbone,
        beside=beside,
        dtype=options.dtype,
        shard_size=options.shard_size,
        workers=options.workers,
        elsewhere=elsewhere,
    )
    summary.vectors = sum(len(writer.digests) for writer, _ in filled)
    summary.added = summary.vectors - before
    failures = writer.manifest.failures
    for key in files:
        if reason := failures.get(key):
            kind = "missing image" if reason == NO_FILE else "unreadable image"
            summary.skipped.setdefault(kind, []).append(f"{key}: {reason}")
    for split, counts in summary.splits.items():
        counts["with_vectors"] = sum(p.key in writer.digests for p in collection.split(split))


def _compiled(
    backbone: Backbone, options: PreprocessOptions, images: int, summary: Summary
) -> Backbone:
    if options.compile == "off" or (options.compile == "auto" and not repays(backbone, images)):
        return backbone
    backbone, line = compile_backbone(backbone, batch_size(backbone.device))
    summary.notes.append(f"{backbone.architecture}: {line}")
    return backbone
