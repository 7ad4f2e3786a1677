"""What evaluated runs say of the same few images."""

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from multispace.data.cache.reader import Cache
from multispace.data.images import decode, read_bytes
from multispace.errors import ImageError, PipelineError
from multispace.pipeline.evaluate import CAPTIONS, SAMPLES
from multispace.pipeline.runs.evaluation_folder import Record, digest_references
from multispace.pipeline.score import read_results
from multispace.pipeline.transfer import local_cache

SIDE = 360  # pixels of a thumbnail, at most
QUALITY = 80  # of its JPEG
DRAWN = 5  # samples that are shown


@dataclass
class Example:
    """An image and what groups say of it: their captions, and distinct samples."""

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
        """Give the images their names and references from the cache at a folder or URL.

        :raises PipelineError: its split is not the one that was evaluated.
        """
        captions = Cache.open(local_cache(place)).captions(record.split)
        references = captions.references()
        known = {i: texts for i, texts in references.items() if str(i) in self.evaluated}
        if digest_references(known) != (record.pictures_digest, record.references_digest):
            raise PipelineError(
                f"--cache {place}: its images of {record.split!r}, or their references, are not "
                "those that were evaluated; name the cache that `evaluate` read, or none"
            )
        for image_id, key in zip(captions.image_ids, captions.keys, strict=True):
            if (example := self.shown.get(str(image_id))) is not None:
                example.key, example.references = key, references[image_id]

    def add_thumbnails(self, images: Path) -> list[str]:
        """Give the images their pixels, and return why some have none."""
        failures = []
        for example in self.shown.values():
            path = images / example.key
            try:
                image = decode(read_bytes(path), path)
            except ImageError as error:
                failures.append(str(error))
                continue
            image.thumbnail((SIDE, SIDE))
            file = io.BytesIO()
            image.save(file, "JPEG", quality=QUALITY)
            content = base64.b64encode(file.getvalue()).decode()
            example.thumbnail = f"data:image/jpeg;base64,{content}"
        return failures


def read_examples(folders: Mapping[str, Path], count: int) -> Examples:
    """Return at most ``count`` images, evenly over the split, with what is said of them.

    :param folders: of one evaluation each, by the name of the group; those without captions
        count for nothing
    :raises PipelineError: captions or samples are not as ``evaluate`` writes them.
    """
    said = {
        name: {str(image_id): text for image_id, text in read_results(path).items()}
        for name, folder in folders.items()
        if (path := folder / CAPTIONS).is_file()
    }
    ids = list(next(iter(said.values()), {}))
    count = min(count, len(ids))
    shown = {i: Example(i) for i in (ids[place * len(ids) // count] for place in range(count))}
    for name, captions in said.items():
        drawn = _samples(folders[name] / SAMPLES)
        for image_id, example in shown.items():
            if image_id in captions:
                example.captions[name] = captions[image_id]
            if image_id in drawn:
                example.samples[name] = list(dict.fromkeys(drawn[image_id]))[:DRAWN]
    return Examples(frozenset(ids), shown)


def _samples(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        return {}
    try:
        return {
            str(entry["image_id"]): entry["captions"] for entry in json.loads(path.read_bytes())
        }
    except (ValueError, KeyError, TypeError) as error:
        raise PipelineError(f"{path}: not as `evaluate` writes it; evaluate again") from error
