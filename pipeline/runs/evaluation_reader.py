"""Read evaluations back and choose among those of a run."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from multispace.data.files import read_file
from multispace.errors import DataError, OptionError, PipelineError, shown
from multispace.pipeline.metrics.captions.image_scores import ImageScores
from multispace.pipeline.metrics.captions.metric import Floats
from multispace.pipeline.metrics.samples.diversity import COLUMNS, CORPUS_MBLEU
from multispace.pipeline.metrics.samples.diversity_curve import MEANS, CurvePoint, DiversityCurve
from multispace.pipeline.metrics.samples.diversity_report import CIDER, SIBLINGS
from multispace.pipeline.runs.evaluation_folder import (
    ATTRIBUTES,
    CURVE,
    DIVERSITY,
    EVALUATIONS,
    NAMES_ON_DISK,
    PER_IMAGE,
    RECORD,
    REPLACED,
    SAMPLE_SCORES,
    SCORES,
    SIGNATURE,
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
        lists = {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
        return cls(folder, Record(**{**found, **lists}), digests, hint)

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
class SampleScores:
    """What each of N samples of P images adds to the scores.

    :param siblings: BLEU's statistics against the other samples of the image, (P, N, 6)
    :param cider: CIDEr-D, (P, N), if it was computed
    """

    siblings: Floats
    cider: Floats | None


@dataclass(frozen=True)
class Scored:
    """An evaluation as it was read back, its images in the order of their image ids as text.

    :param captions: CAPTION_COLUMNS of the single captions
    :param samples: diversity.COLUMNS of each image's samples, (P, 6), where there are any
    :param sample_scores: None where there are no samples, or an earlier version wrote them
    :param curve: None where the evaluation has none
    :param facts: counts of :class:`Tally` by class, (P, 4) each
    """

    files: EvaluationFiles
    corpus: dict[str, float]
    images: ImageScores
    captions: dict[str, float]
    samples: Floats | None
    sample_scores: SampleScores | None
    curve: DiversityCurve | None
    facts: Mapping[str, Floats] | None

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
    with more samples, then one with a curve of more temperatures.

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


def find_evaluations(run: Path, checkpoint: str) -> list[EvaluationFiles]:
    """Return all evaluations of a checkpoint, in the order of the names of their folders.

    :raises PipelineError: the record of an evaluation is damaged.
    """
    hint = f"run `multispace evaluate {run}` again"
    named = {path.name.removeprefix(REPLACED): path for path in _folders(run / EVALUATIONS)}
    found = [EvaluationFiles.open(path, hint) for _, path in sorted(named.items())]
    return [files for files in found if files.record.checkpoint == checkpoint]


def _again(run: Path, split: str, checkpoint: str) -> str:
    """Return the hint to evaluate."""
    words = f"{run} --split {split} --checkpoint {checkpoint}"
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
        not {"temperature", "top_p", "latent_temperature", "guidance"} & record.changes().keys(),
        len(record.curve), record.sample_meteor, record.importance_samples,
        record.disentanglement, "seed" not in record.changes(), -record.seed,
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
    scores = _sample_scores(files) if samples is not None and files.has(SAMPLE_SCORES) else None
    curve = _curve(files) if record.curve else None
    return Scored(files, corpus, images, captions, samples, scores, curve, facts)


def _scores(files: EvaluationFiles) -> tuple[ImageScores, dict[str, float]]:
    """Return the scores of images and of the whole set, which must agree."""
    entries = _ordered(files.read(PER_IMAGE))
    try:
        images = ImageScores.from_entries(entries)
    except (ValueError, KeyError, TypeError) as error:
        raise files.damaged(PER_IMAGE, f"its entries differ ({error!r})") from error
    written = files.read(SCORES)
    written.pop(SIGNATURE, None)  # earlier versions wrote none
    corpus = {name: float(score) for name, score in written.items()}
    found = images.totals()
    for name, score in corpus.items():
        total = found.get(name)
        # `not ... <= ...` also refuses NaN, which no comparison holds for.
        if total is None or not abs(total - score) <= TOLERANCE:
            raise files.damaged(SCORES, f"{name} is {score}, but {total} by {PER_IMAGE}")
    return images, corpus


def _samples(entries: list[dict[str, Any]]) -> Floats:
    rows = [[entry[name] for name in COLUMNS] for entry in _ordered(entries)]
    return np.array(rows, float).reshape(len(rows), len(COLUMNS))


def _facts(files: EvaluationFiles) -> dict[str, Floats] | None:
    """Return the counts of named objects and attributes; None if an earlier version wrote them."""
    entries = files.read(ATTRIBUTES).get("per_image") if files.has(ATTRIBUTES) else None
    if entries is None:
        return None
    ordered = _ordered(entries)
    none = [0] * 4
    kinds = dict.fromkeys(kind for entry in ordered for kind in entry["counts"])
    rows = {kind: [entry["counts"].get(kind, none) for entry in ordered] for kind in kinds}
    return {kind: np.array(table, float) for kind, table in rows.items()}


def _sample_scores(files: EvaluationFiles) -> SampleScores:
    """Return the scores of each sample.

    :raises PipelineError: their numbers of images or of samples are not those of the evaluation.
    """
    record = files.record
    entries = _ordered(files.read(SAMPLE_SCORES))
    siblings = [entry[SIBLINGS] for entry in entries]
    cider = [entry[CIDER] for entry in entries if CIDER in entry]
    counts = {len(rows) for rows in (*siblings, *cider)}
    if len(entries) != record.images or len(cider) not in (0, len(entries)):
        what = f"it has {len(entries)} images, {len(cider)} with CIDEr, expected {record.images}"
        raise files.damaged(SAMPLE_SCORES, what)
    if counts != {record.samples}:
        what = f"it has {sorted(counts)} samples per image, expected {record.samples}"
        raise files.damaged(SAMPLE_SCORES, what)
    return SampleScores(np.array(siblings, float), np.array(cider, float) if cider else None)


def _curve(files: EvaluationFiles) -> DiversityCurve:
    """Return the curve of an evaluation.

    :raises PipelineError: its values of images do not fit its points, or those the evaluation.
    """
    record, found = files.record, files.read(CURVE)
    entries = _ordered(found["per_image"])
    points = found["points"]
    temperatures = tuple(point["temperature"] for point in points)
    counts = {len(entry["values"]) for entry in entries}
    if (temperatures, found["n"], len(entries), counts) != (
        record.curve, record.samples, record.images, {len(points)},
    ):  # fmt: skip
        what = f"it has {found['n']} samples of {len(entries)} images at {sorted(counts)} of "
        what += f"the temperatures {shown(temperatures)}, which is not what {RECORD} says"
        raise files.damaged(CURVE, what)
    values = np.array([entry["values"] for entry in entries], float)  # (P, K, 4)
    curve = DiversityCurve(
        found["n"],
        tuple(entry["image_id"] for entry in entries),
        tuple(
            CurvePoint(point["temperature"], point[CORPUS_MBLEU], values[:, place])
            for place, point in enumerate(points)
        ),
    )
    for read, point in zip(curve.to_json()["points"], points, strict=True):
        for name in MEANS:
            # `not ... <= ...` also refuses NaN, which no comparison holds for.
            if not abs(read[name] - point[name]) <= TOLERANCE:
                what = f"{name} is {point[name]}, but {read[name]} by its images"
                raise files.damaged(CURVE, what)
    return curve


def _ordered(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return entries of images in the order of their image ids as text."""
    return sorted(entries, key=lambda entry: str(entry["image_id"]))
