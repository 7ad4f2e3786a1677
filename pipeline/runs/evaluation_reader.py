"""Read evaluations back and choose among those of a run."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from multispace.errors import OptionError, PipelineError
from multispace.pipeline.metrics.captions.diversity import COLUMNS
from multispace.pipeline.metrics.captions.image_scores import ImageScores
from multispace.pipeline.metrics.captions.metric import Floats
from multispace.pipeline.runs.evaluation_folder import (
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

CAPTION_COLUMNS = ("distinct_share", "novel_share", "words")  # of diversity.json
TOLERANCE = 1e-6  # between scores.json and the corpus scores of per_image.json


@dataclass(frozen=True)
class Scored:
    """An evaluation as it was read back, its images in the order of their image ids as text."""

    folder: Path
    record: Record
    digests: Mapping[str, str] | None  # SHA-256 by file name; earlier versions wrote none
    corpus: dict[str, float]
    images: ImageScores
    captions: dict[str, float]  # CAPTION_COLUMNS of the single captions
    samples: Floats | None  # diversity.COLUMNS of each image's samples (P, 6), where there are any

    def has(self, name: str) -> bool:
        """Return whether the evaluation has the file ``name``."""
        return name in self.digests if self.digests else (self.folder / name).is_file()

    def read(self, name: str) -> Any:
        """Return the content of a JSON file of the evaluation.

        :raises PipelineError: it is not the file that was written.
        """
        try:
            return _read(self.folder, name, self.digests)
        except (OSError, ValueError, RecursionError) as error:
            raise damaged(self.folder / name, error) from error


def damaged(path: Path, error: Exception) -> PipelineError:
    """Return the error about a file of an evaluation that is not as `evaluate` writes it."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return PipelineError(
        f"not as `evaluate` writes it ({reason})", where=path, hint="evaluate again"
    )


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
    ranked = []
    for folder in found:
        record, _ = _read_record(folder, again)
        ranked.append((_fullness(record), record, folder))
    ranked.sort(key=lambda entry: entry[0], reverse=True)
    is_default_search = ranked[0][0][0]
    searches = {(r.beam, r.length_penalty) for _, r, _ in ranked}
    if not is_default_search and len(searches) > 1:
        places = ", ".join(str(path) for *_, path in ranked)
        raise PipelineError(
            f"there are evaluations of {len(searches)} searches",
            where=root,
            hint=f"name one in place of the run: {places}",
        )
    return ranked[0][-1]


def _again(run: Path, split: str, checkpoint: str) -> str:
    """Return the hint to evaluate."""
    words = f"{run} --split {split} --checkpoint {checkpoint} --cache CACHE"
    return f"run `multispace evaluate {words}`"


def _folders(root: Path) -> list[Path]:
    """Return the folders of evaluations; one about to be replaced counts before the rename."""
    if not root.is_dir():
        return []
    found = sorted(path for path in root.iterdir() if (path / RECORD).is_file())
    replaced = [path for path in found if path.name.startswith(REPLACED)]
    plain = [path for path in found if not path.name.startswith(".")]
    return [*replaced, *plain]  # the plain one wins where there are both


def _fullness(record: Record) -> tuple[Any, ...]:
    changes = record.changes()
    search = not {"beam", "length_penalty"} & changes.keys()
    return (
        search, len(record.metrics), record.samples, record.sample_meteor,
        record.importance_samples, "seed" not in changes, -record.seed,
    )  # fmt: skip


def read_evaluation(folder: Path, split: str, checkpoint: str) -> Scored:
    """Read the scores and the diversity of the evaluation in ``folder``.

    :raises OptionError: it is one of another split or checkpoint.
    :raises PipelineError: it is not whole.
    """
    again = _again(folder.parent.parent, split, checkpoint)
    record, digests = _read_record(folder, again)
    if (record.split, record.checkpoint) != (split, checkpoint):
        raise OptionError(
            f"is an evaluation of split {record.split!r}, checkpoint {record.checkpoint!r}, "
            f"not of {split!r}, {checkpoint!r}",
            where=folder,
            hint=f"give --split {record.split} --checkpoint {record.checkpoint}",
        )
    try:
        entries = sorted(_read(folder, PER_IMAGE, digests), key=lambda e: str(e["image_id"]))
        images = ImageScores.from_entries(entries)
        corpus = {str(n): float(score) for n, score in _read(folder, SCORES, digests).items()}
        _check_totals(corpus, images)
        diversity = _read(folder, DIVERSITY, digests)
        captions = {name: float(diversity["captions"][name]) for name in CAPTION_COLUMNS}
        samples = _samples(diversity["per_image"]) if record.samples else None
        counts = {record.images, len(entries), len(entries if samples is None else samples)}
        if len(counts) > 1:
            raise ValueError(f"{RECORD} says {record.images} images, the files {sorted(counts)}")
    except _FAULTS as error:
        raise _not_whole(folder, error, again) from error
    return Scored(folder, record, digests, corpus, images, captions, samples)


def _check_totals(corpus: Mapping[str, float], images: ImageScores) -> None:
    found = images.totals()
    for name, score in corpus.items():
        # NaN is within no tolerance; `> TOLERANCE` would let it pass.
        if not abs(found[name] - score) <= TOLERANCE:
            raise ValueError(f"{name} is {score} in {SCORES}, {found[name]} by {PER_IMAGE}")


_FAULTS = (
    OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError,
)  # fmt: skip


def _not_whole(folder: Path, error: Exception, hint: str) -> PipelineError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return PipelineError(f"not a whole evaluation ({reason})", where=folder, hint=hint)


def _read_record(folder: Path, hint: str) -> tuple[Record, Mapping[str, str] | None]:
    try:
        values = json.loads((folder / RECORD).read_bytes())
        found = {}
        for known in fields(Record):
            name = NAMES_ON_DISK.get(known.name, known.name)
            if name in values or known.default is MISSING:
                found[known.name] = values[name]
        return Record(**{**found, "metrics": tuple(found["metrics"])}), values.get("files")
    except _FAULTS as error:
        raise _not_whole(folder, error, hint) from error


def _samples(entries: Sequence[Mapping[str, Any]]) -> Floats:
    ordered = sorted(entries, key=lambda entry: str(entry["image_id"]))
    samples = np.array([[entry[name] for name in COLUMNS] for entry in ordered], float)
    if not np.isfinite(samples).all():
        raise ValueError(f"{DIVERSITY} holds a value that is not a finite number")
    return samples


def _read(folder: Path, name: str, digests: Mapping[str, str] | None) -> Any:
    content = (folder / name).read_bytes()
    if digests is not None and hashlib.sha256(content).hexdigest() != digests.get(name):
        raise ValueError(f"{name} does not match its digest in {RECORD}")
    return json.loads(content)
