"""The folder of one evaluation: where it lies, what made it, and reading it back."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from multispace.data.files import write_json
from multispace.errors import PipelineError
from multispace.pipeline.metrics.captions.diversity import COLUMNS
from multispace.pipeline.metrics.captions.image_scores import ImageScores
from multispace.pipeline.metrics.captions.metric import Floats
from multispace.pipeline.score import PER_IMAGE_FILE, SCORES_FILE

RECORD = "evaluation.json"
DIVERSITY = "diversity.json"
CAPTIONS = ("distinct_share", "novel_share", "words")  # of diversity.json
TOLERANCE = 1e-6  # between scores.json and what per_image.json gives

_ON_DISK = {"images": "pictures"}  # names that differ in evaluation.json


@dataclass(frozen=True)
class Record:
    """What an evaluation was made of and how. Its file is written last."""

    system: str
    split: str
    checkpoint: str
    step: int
    beam: int
    length_penalty: float
    samples: int
    seed: int  # of the samples
    metrics: tuple[str, ...]
    images: int
    without_vector: int
    pictures_digest: str  # of the image ids
    references_digest: str  # of the image ids with their references
    vocabulary_digest: str
    fingerprint: str  # of the features
    version: str

    def save(self, folder: Path) -> None:
        """Write it into the folder of the evaluation."""
        values = asdict(self)
        write_json(folder / RECORD, {_ON_DISK.get(name, name): v for name, v in values.items()})


@dataclass(frozen=True)
class Scored:
    """An evaluation as it was read back, its images in the order of their image ids as text."""

    folder: Path
    record: Record
    corpus: dict[str, float]
    images: ImageScores
    captions: dict[str, float]  # CAPTIONS of the single captions
    samples: Floats | None  # diversity.COLUMNS of each image's samples (P, 6), where there are any


def evaluation_folder(run: Path, split: str, checkpoint: str) -> Path:
    """Return where the evaluation of a checkpoint lies: best has the plain name."""
    return run / "evaluation" / (split if checkpoint == "best" else f"{split}-{checkpoint}")


def digest_references(references: Mapping[int | str, Sequence[str]]) -> tuple[str, str]:
    """Return the SHA-256 of the image ids, and of the ids with their references.

    The order of the images counts for nothing, that of an image's references does.
    """
    ids = sorted(references, key=str)
    content = ([str(i) for i in ids], [[str(i), list(references[i])] for i in ids])
    first, second = (hashlib.sha256(json.dumps(part).encode()).hexdigest() for part in content)
    return first, second


def read_evaluation(run: Path, split: str, checkpoint: str) -> Scored:
    """Read what ``evaluate`` wrote.

    :raises PipelineError: there is none, or its files do not fit together.
    """
    folder = evaluation_folder(run, split, checkpoint)
    again = f"multispace evaluate {run} --split {split} --checkpoint {checkpoint} --cache CACHE"
    if not (folder / RECORD).is_file():
        what = "has no evaluation.json" if folder.is_dir() else "is not there"
        raise PipelineError(f"{folder}: {what}; run `{again}`")
    try:
        values = {name: _read(folder / name) for name in (RECORD, SCORES_FILE, PER_IMAGE_FILE)}
        record = _record(values[RECORD])
        entries = sorted(values[PER_IMAGE_FILE], key=lambda entry: str(entry["image_id"]))
        images = ImageScores.from_entries(entries)
        corpus = {str(name): float(score) for name, score in values[SCORES_FILE].items()}
        found = images.totals()
        for name, score in corpus.items():
            if abs(found[name] - score) > TOLERANCE:
                raise ValueError(f"{name} is {score} in {SCORES_FILE}, {found[name]} of images")
        diversity = _read(folder / DIVERSITY)
        captions = {name: float(diversity["captions"][name]) for name in CAPTIONS}
        samples = _samples(diversity["per_image"]) if record.samples else None
        counts = {record.images, len(entries), len(entries if samples is None else samples)}
        if (record.split, record.checkpoint) != (split, checkpoint) or len(counts) > 1:
            raise ValueError(
                f"{RECORD} tells of {record.images} images of {record.split!r} "
                f"({record.checkpoint}), the files hold {sorted(counts)}"
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PipelineError(
            f"{folder}: not a whole evaluation ({reason}); run `{again}`"
        ) from error
    return Scored(folder, record, corpus, images, captions, samples)


def _samples(entries: Sequence[Mapping[str, Any]]) -> Floats:
    ordered = sorted(entries, key=lambda entry: str(entry["image_id"]))
    return np.array([[entry[name] for name in COLUMNS] for entry in ordered], float)


def _read(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _record(value: Mapping[str, Any]) -> Record:
    return Record(**{f.name: value[_ON_DISK.get(f.name, f.name)] for f in fields(Record)})
