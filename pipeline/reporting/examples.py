"""Captions of a few images by several runs, with references and thumbnails."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from multispace.data.cache.reader import Cache
from multispace.data.images import decode, read_bytes
from multispace.errors import ImageError, PipelineError
from multispace.pipeline.cache_transfer import local_cache
from multispace.pipeline.console.progress import Progress
from multispace.pipeline.reporting.thumbnail import thumbnail
from multispace.pipeline.runs.evaluation_folder import (
    CAPTIONS,
    SAMPLES,
    Record,
    digest_references,
)
from multispace.pipeline.runs.evaluation_reader import EvaluationFiles

SHOWN = 5  # samples of an image


@dataclass
class Example:
    """An image with its caption and its distinct samples by each group."""

    key: str
    captions: dict[str, str] = field(default_factory=dict)
    samples: dict[str, list[str]] = field(default_factory=dict)
    references: list[str] = field(default_factory=list)
    thumbnail: str = ""  # a data URI


@dataclass(frozen=True)
class Examples:
    """A few images of a split, by image id as text."""

    evaluated: frozenset[str]  # the ids of all its images
    shown: dict[str, Example]

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
        for image_id, key in zip(captions.image_ids, captions.keys, strict=True):
            if (example := self.shown.get(str(image_id))) is not None:
                example.key, example.references = key, references[image_id]

    def add_thumbnails(self, images: Path) -> list[str]:
        """Add a thumbnail to each image, and return a line for each that cannot be read."""
        failures = []
        with Progress(len(self.shown), "images", "thumbnails") as progress:
            for example in self.shown.values():
                path = images / example.key
                try:
                    example.thumbnail = thumbnail(decode(read_bytes(path), path))
                except ImageError as error:
                    failures.append(str(error))
                progress.advance()
        return failures


def read_examples(evaluations: Mapping[str, EvaluationFiles], count: int) -> Examples:
    """Return at most ``count`` images, evenly spaced over the split, with their captions.

    :param evaluations: by the name of the group; those without captions are left out
    :raises PipelineError: captions or samples are not as ``evaluate`` writes them.
    """
    captions = {
        name: {str(entry["image_id"]): entry["caption"] for entry in files.read(CAPTIONS)}
        for name, files in evaluations.items()
        if files.has(CAPTIONS)
    }
    ids = list(next(iter(captions.values()), {}))
    count = min(count, len(ids))
    shown = {i: Example(i) for i in (ids[place * len(ids) // count] for place in range(count))}
    for name, texts in captions.items():
        drawn = _samples(evaluations[name])
        for image_id, example in shown.items():
            if image_id in texts:
                example.captions[name] = texts[image_id]
            if image_id in drawn:
                example.samples[name] = list(dict.fromkeys(drawn[image_id]))[:SHOWN]
    return Examples(frozenset(ids), shown)


def _samples(files: EvaluationFiles) -> dict[str, list[str]]:
    if not files.has(SAMPLES):
        return {}
    return {str(entry["image_id"]): entry["captions"] for entry in files.read(SAMPLES)}
