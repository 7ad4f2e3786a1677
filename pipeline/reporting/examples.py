"""Captions of the images of a split by several runs, with references and thumbnails."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, combinations
from pathlib import Path

from multispace.data.cache.reader import Cache
from multispace.errors import ImageError, PipelineError
from multispace.pipeline.cache_transfer import local_cache
from multispace.pipeline.console.progress import Progress
from multispace.pipeline.reporting.thumbnail import fitting_side, small_image, thumbnail
from multispace.pipeline.reporting.wrong_words import CheckedCaption, check_caption
from multispace.pipeline.runs.evaluation_folder import (
    CAPTIONS,
    PER_IMAGE,
    SAMPLES,
    Record,
    digest_references,
)
from multispace.pipeline.runs.evaluation_reader import EvaluationFiles

THUMBNAILS = 5_000_000  # characters of all thumbnails of a page, unless the smallest are more
SAMPLE_TEXT = 2_500_000  # characters of all samples of a page, unless one of each is more
AROUND = "<li></li>"  # what the page writes for each sample
SCORE = "CIDEr"  # by which images are sorted


@dataclass
class Example:
    """An image with its caption and its distinct samples by each group."""

    key: str
    captions: dict[str, str] = field(default_factory=dict)
    samples: dict[str, list[str]] = field(default_factory=dict)
    references: list[str] = field(default_factory=list)
    thumbnail: str = ""  # a data URI
    scores: dict[str, float] = field(default_factory=dict)  # CIDEr of each group
    checked: dict[str, CheckedCaption] = field(default_factory=dict)  # with references only

    @property
    def disagreement(self) -> float:
        """The mean fraction of words that two captions do not share."""
        words = [set(text.lower().split()) for text in self.captions.values()]
        found = [1 - len(a & b) / max(len(a | b), 1) for a, b in combinations(words, 2)]
        return sum(found) / max(len(found), 1)

    @property
    def wrong(self) -> int:
        """The number of objects and attributes in all captions that the image does not have."""
        return sum(len(checked.wrong) for checked in self.checked.values())


@dataclass(frozen=True)
class Examples:
    """Images of a split, by image id as text.

    :param evaluated: the ids of all its images
    :param note: which samples were left out, if any
    """

    evaluated: frozenset[str]
    shown: dict[str, Example]
    note: str = ""

    def add_references(self, place: Path | str, record: Record) -> None:
        """Add the names and references of the images, from the cache at a folder or URL.

        :raises PipelineError: its split is not the one that was evaluated.
        """
        captions = Cache.open(local_cache(place)).captions(record.split)
        references = captions.references()
        known = {i: texts for i, texts in references.items() if str(i) in self.evaluated}
        if digest_references(known) != (record.pictures_digest, record.references_digest):
            raise PipelineError(
                f"its images of {record.split!r}, or their references, are not those that were "
                "evaluated",
                where=place,
                hint="give the cache that `evaluate` read: --cache DIR",
            )
        factors = dict(zip(captions.image_ids, captions.factors or (), strict=False))
        for image_id, key in zip(captions.image_ids, captions.keys, strict=True):
            if (example := self.shown.get(str(image_id))) is not None:
                example.key, example.references = key, references[image_id]
                drawn = factors.get(image_id)
                example.checked = {
                    name: check_caption(text, references[image_id], drawn)
                    for name, text in example.captions.items()
                }

    def add_thumbnails(self, images: Path) -> list[str]:
        """Add a thumbnail to each image, and return a line for each that cannot be read."""
        examples = list(self.shown.values())
        side = fitting_side([images / example.key for example in examples], THUMBNAILS)
        failures = []
        with Progress(len(examples), "images", "thumbnails") as progress:
            for example in examples:
                path = images / example.key
                try:
                    example.thumbnail = thumbnail(small_image(path, side), side)
                except ImageError as error:
                    failures.append(str(error))
                progress.advance()
        return failures


def read_examples(evaluations: Mapping[str, EvaluationFiles], count: int | None) -> Examples:
    """Return all images, or at most ``count``, evenly spaced over the split, with their captions.

    :param evaluations: by the name of the group; those without captions are left out
    :raises PipelineError: captions or samples are not as ``evaluate`` writes them.
    """
    captions = {
        name: {str(entry["image_id"]): entry["caption"] for entry in files.read(CAPTIONS)}
        for name, files in evaluations.items()
        if files.has(CAPTIONS)
    }
    ids = list(next(iter(captions.values()), {}))
    count = len(ids) if count is None else min(count, len(ids))
    shown = {i: Example(i) for i in (ids[place * len(ids) // count] for place in range(count))}
    for name, texts in captions.items():
        drawn = _samples(evaluations[name])
        scores = _scores(evaluations[name])
        for image_id, example in shown.items():
            if image_id in texts:
                example.captions[name] = texts[image_id]
            if image_id in drawn:
                example.samples[name] = list(dict.fromkeys(drawn[image_id]))
            if image_id in scores:
                example.scores[name] = scores[image_id]
    return Examples(frozenset(ids), shown, _cut_samples(shown.values()))


def _cut_samples(examples: Collection[Example]) -> str:
    """Keep as many samples of each image and group as fit the page, and say so if it is not all."""
    lists = [texts for example in examples for texts in example.samples.values()]
    sizes = [0] * max(map(len, lists), default=0)
    for texts in lists:
        for place, text in enumerate(texts):
            sizes[place] += len(text) + len(AROUND)
    kept = max(sum(size <= SAMPLE_TEXT for size in accumulate(sizes)), 1)
    if kept >= len(sizes):
        return ""
    for example in examples:
        for name, texts in example.samples.items():
            example.samples[name] = texts[:kept]
    return f"samples: the first {kept} different ones of each image; more would not fit the page"


def _samples(files: EvaluationFiles) -> dict[str, list[str]]:
    if not files.has(SAMPLES):
        return {}
    return {str(entry["image_id"]): entry["captions"] for entry in files.read(SAMPLES)}


def _scores(files: EvaluationFiles) -> dict[str, float]:
    """Return the CIDEr of each image, if it was computed."""
    entries = files.read(PER_IMAGE)
    return {str(entry["image_id"]): entry[SCORE] for entry in entries if SCORE in entry}
