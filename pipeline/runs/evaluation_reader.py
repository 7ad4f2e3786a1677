"""Read evaluations back and choose among those of a run."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from multispace.data.files import read_file
from multispace.errors import DataError, OptionError, PipelineError
from multispace.pipeline.metrics.captions.image_scores import ImageScores
from multispace.pipeline.metrics.captions.metric import Floats
from multispace.pipeline.metrics.samples.diversity import COLUMNS
from multispace.pipeline.runs.evaluation_folder import (
    ATTRIBUTES,
    DIVERSITY,
    EVALUATIONS,
    NAMES_ON_DISK,
    PER_IMAGE,
    RECORD,
    REPLACED,
    SCORES,
    Record,
    base_name,
)
from multispace.pipeline.runs.evaluation_formats import CAPTION_COLUMNS, evaluation_format

TOLERANCE = 1e-6  # between scores.json and the corpus scores of per_image.json


@dataclass(frozen=True)
class EvaluationFiles:
    """The files of an evaluation, each checked against its digest and its format.

    ``digests`` are None where an earlier version wrote the evaluation.
    """

    folder: Path
    record: Record
    digests: Mapping[str, str] | None
    hint: str  # what to do about a file that is damaged

    @classmethod
    def open(cls, folder: Path, hint: str) -> "EvaluationFiles":
        """Read ``evaluation.json``.

        :raises PipelineError: it is missing or damaged.
        """
        values = evaluation_format(RECORD, hint).read_json(folder / RECORD)
        digests = values.pop("files", None)
        on_disk = {name: field for field, name in NAMES_ON_DISK.items()}
        found = {on_disk.get(name, name): value for name, value in values.items()}
        return cls(folder, Record(**{**found, "metrics": tuple(found["metrics"])}), digests, hint)

    def has(self, name: str) -> bool:
        """Return whether the evaluation has the file ``name``."""
        return (self.folder / name).is_file() if self.digests is None else name in self.digests

    def read(self, name: str) -> Any:
        """Return the content of a JSON file.

        :raises PipelineError: it is not the file that was written, or not as `evaluate` writes it.
        """
        path = self.folder / name
        known = evaluation_format(name, self.hint)
        try:
            content = read_file(path, known.max_bytes)
        except OSError as error:
            raise self.damaged(name, f"cannot be read ({error.strerror})") from error
        except DataError as error:
            raise self.damaged(name, error.what) from error
        if self.digests is not None:
            digest = hashlib.sha256(content).hexdigest()
            if digest != self.digests.get(name):
                raise self.damaged(name, f"does not match its digest in {RECORD}")
        return known.parse_json(content, path)

    def damaged(self, name: str, what: object) -> PipelineError:
        """Return the error about a file that is not as it was written."""
        return PipelineError(what, where=self.folder / name, hint=self.hint)


@dataclass(frozen=True)
class Scored:
    """An evaluation as it was read back, its images in the order of their image ids as text."""

    files: EvaluationFiles
    corpus: dict[str, float]
    images: ImageScores
    captions: dict[str, float]  # CAPTION_COLUMNS of the single captions
    samples: Floats | None  # diversity.COLUMNS of each image's samples (P, 6), where there are any
    facts: Mapping[str, Floats] | None  # counts of :class:`Tally` by class, (P, 4) each

    @property
    def folder(self) -> Path:
        """The folder of the evaluation."""
        return self.files.folder

    @property
    def record(self) -> Record:
        """How it was made and of what."""
        return self.files.record


def is_evaluation(folder: Path) -> bool:
    """Return whether ``folder`` is that of an evaluation, not of a run."""
    return folder.parent.name == EVALUATIONS and (folder / RECORD).is_file()


def find_evaluation(run: Path, split: str, checkpoint: str) -> Path:
    """Return the folder of the fullest evaluation of a checkpoint on a split.

    One with the default beam and length penalty comes first, then one with more metrics, then one
    with more samples.

    :raises PipelineError: there is none, or several of different searches, none of the default.
    """
    root, base = run / EVALUATIONS, base_name(split, checkpoint)
    again = _again(run, split, checkpoint)
    named = {path.name.removeprefix(REPLACED): path for path in _folders(root)}
    found = [path for name, path in named.items() if name.split(",")[0] == base]
    if not found:
        what = f"has no {RECORD}" if (root / base).is_dir() else "is not there"
        raise PipelineError(what, where=root / base, hint=again)
    evaluations = [EvaluationFiles.open(folder, again) for folder in found]
    evaluations.sort(key=lambda files: _fullness(files.record), reverse=True)
    records = [files.record for files in evaluations]
    searches = {(r.beam, r.length_penalty, r.single_caption) for r in records}
    if not _has_default_search(records[0]) and len(searches) > 1:
        places = ", ".join(str(files.folder) for files in evaluations)
        raise PipelineError(
            f"there are evaluations of {len(searches)} searches",
            where=root,
            hint=f"name one in place of the run: {places}",
        )
    return evaluations[0].folder


def _again(run: Path, split: str, checkpoint: str) -> str:
    """Return the hint to evaluate."""
    words = f"{run} --split {split} --checkpoint {checkpoint} --cache CACHE"
    return f"run `multispace evaluate {words}`"


def _folders(root: Path) -> list[Path]:
    """Return the folders of evaluations, those that another is about to replace first."""
    if not root.is_dir():
        return []
    found = sorted(path for path in root.iterdir() if (path / RECORD).is_file())
    replaced = [path for path in found if path.name.startswith(REPLACED)]
    return [*replaced, *(path for path in found if not path.name.startswith("."))]


def _has_default_search(record: Record) -> bool:
    return not {"beam", "length_penalty", "single_caption"} & record.changes().keys()


def _fullness(record: Record) -> tuple[Any, ...]:
    return (
        _has_default_search(record), len(record.metrics), record.samples,
        not {"temperature", "top_p"} & record.changes().keys(), record.sample_meteor,
        record.importance_samples, "seed" not in record.changes(), -record.seed,
    )  # fmt: skip


def read_evaluation(folder: Path, split: str, checkpoint: str) -> Scored:
    """Read the scores and the diversity of the evaluation in ``folder``.

    :raises OptionError: it is one of another split or checkpoint.
    :raises PipelineError: it is not whole; names the file.
    """
    files = EvaluationFiles.open(folder, _again(folder.parent.parent, split, checkpoint))
    record = files.record
    if (record.split, record.checkpoint) != (split, checkpoint):
        raise OptionError(
            f"is an evaluation of split {record.split!r}, checkpoint {record.checkpoint!r}, "
            f"not of {split!r}, {checkpoint!r}",
            where=folder,
            hint=f"give --split {record.split} --checkpoint {record.checkpoint}",
        )
    images, corpus = _scores(files)
    diversity = files.read(DIVERSITY)
    captions = {name: float(diversity["captions"][name]) for name in CAPTION_COLUMNS}
    samples = _samples(diversity.get("per_image", [])) if record.samples else None
    facts = _facts(files)
    counts = {record.images, len(images.means), len(images.means if samples is None else samples)}
    counts |= {len(table) for table in (facts or {}).values()}
    if len(counts) > 1:
        what = f"it says {record.images} images, the other files have {sorted(counts)}"
        raise files.damaged(RECORD, what)
    return Scored(files, corpus, images, captions, samples, facts)


def _scores(files: EvaluationFiles) -> tuple[ImageScores, dict[str, float]]:
    """Return the scores of images and of the whole set, which must agree."""
    entries = sorted(files.read(PER_IMAGE), key=lambda entry: str(entry["image_id"]))
    try:
        images = ImageScores.from_entries(entries)
    except (ValueError, KeyError, TypeError) as error:
        raise files.damaged(PER_IMAGE, f"its entries differ ({error!r})") from error
    corpus = {name: float(score) for name, score in files.read(SCORES).items()}
    found = images.totals()
    for name, score in corpus.items():
        total = found.get(name)
        # `not ... <= ...` also refuses NaN, which no comparison holds for.
        if total is None or not abs(total - score) <= TOLERANCE:
            raise files.damaged(SCORES, f"{name} is {score}, but {total} by {PER_IMAGE}")
    return images, corpus


def _samples(entries: Sequence[Mapping[str, Any]]) -> Floats:
    ordered = sorted(entries, key=lambda entry: str(entry["image_id"]))
    rows = [[entry[name] for name in COLUMNS] for entry in ordered]
    return np.array(rows, float).reshape(len(rows), len(COLUMNS))


def _facts(files: EvaluationFiles) -> dict[str, Floats] | None:
    """Return the counts of named objects and attributes; None if an earlier version wrote them."""
    entries = files.read(ATTRIBUTES).get("per_image") if files.has(ATTRIBUTES) else None
    if entries is None:
        return None
    ordered = sorted(entries, key=lambda entry: str(entry["image_id"]))
    none = [0] * 4
    kinds = dict.fromkeys(kind for entry in ordered for kind in entry["counts"])
    rows = {kind: [entry["counts"].get(kind, none) for entry in ordered] for kind in kinds}
    return {kind: np.array(table, float) for kind, table in rows.items()}
