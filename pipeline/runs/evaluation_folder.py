"""The folder of one evaluation: its name, its files, and writing it.

``RUN/evaluation/`` has a folder for each thing that was asked of ``evaluate``. The evaluation
with the default options is ``SPLIT/``, that of the last checkpoint ``SPLIT-last/``; options with
other values follow the name, as in ``test,beam=1,samples=20/``. A folder appears whole by a
rename, and ``evaluation.json`` holds the SHA-256 of each of its files.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock

from multispace.data.files import json_bytes, sync_folder
from multispace.errors import PipelineError
from multispace.fields import shown_value
from multispace.pipeline.command_options.evaluate_options import EvaluateOptions
from multispace.pipeline.metrics.captions.coco_metrics import Scores
from multispace.pipeline.metrics.captions.metric_names import METRICS

EVALUATIONS = "evaluation"  # the folder of a run that holds its evaluations
RECORD = "evaluation.json"
CAPTIONS = "captions.json"
SAMPLES = "samples.json"
CONSENSUS = "consensus.json"
SCORES = "scores.json"
PER_IMAGE = "per_image.json"
DIVERSITY = "diversity.json"
LATENTS = "latents.json"
FACTORS = "disentanglement.json"
ATTRIBUTES = "attributes.json"
COMPOSITION = "composition.json"
FILES = (
    RECORD, CAPTIONS, SAMPLES, CONSENSUS, SCORES, PER_IMAGE, DIVERSITY, LATENTS, FACTORS,
    ATTRIBUTES, COMPOSITION,
)  # fmt: skip

PARTIAL = ".partial-"  # before the name of a folder that is being written
REPLACED = ".replaced-"  # before the name of a folder that another is about to replace
NAMES_ON_DISK = {"images": "pictures"}  # names that differ in evaluation.json


@dataclass(frozen=True)
class Request:
    """What `evaluate` is asked for, which names the folder. The defaults are those of `evaluate`.

    :param samples: captions per image from draws of the latent
    :param importance_samples: draws per caption of the importance-weighted likelihood
    :param seed: of all draws
    """

    split: str
    checkpoint: str = EvaluateOptions.checkpoint
    beam: int = EvaluateOptions.beam
    length_penalty: float = EvaluateOptions.length_penalty
    samples: int = EvaluateOptions.samples
    sample_meteor: bool = EvaluateOptions.sample_meteor
    importance_samples: int = EvaluateOptions.importance_samples
    metrics: tuple[str, ...] = EvaluateOptions.metrics
    seed: int = EvaluateOptions.seed

    def changes(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, without split and checkpoint."""
        values = {f.name: getattr(self, f.name) for f in fields(Request)}
        values["metrics"] = tuple(m for m in METRICS if m in self.metrics)
        return {
            f.name: values[f.name]
            for f in fields(Request)
            if f.name not in ("split", "checkpoint") and values[f.name] != f.default
        }

    @property
    def folder_name(self) -> str:
        """The name of the folder: ``test``, or ``test-last,beam=1,metrics=bleu+cider``."""
        words = [base_name(self.split, self.checkpoint)]
        for name, value in self.changes().items():
            text = shown_value(value).replace(",", "+")
            option = name.replace("_", "-")
            words.append(option if value is True else f"{option}={text}")
        return ",".join(words)


@dataclass(frozen=True, kw_only=True)
class Record(Request):
    """How an evaluation was made and of what; the content of ``evaluation.json``."""

    system: str
    step: int
    images: int
    without_vector: int
    pictures_digest: str  # of the image ids
    references_digest: str  # of the image ids with their references
    vocabulary_digest: str
    fingerprint: str  # of the features
    version: str

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``evaluation.json``, without the digests of the files."""
        return {NAMES_ON_DISK.get(name, name): value for name, value in asdict(self).items()}


def base_name(split: str, checkpoint: str) -> str:
    """Return the name of the folder of the default evaluation of a checkpoint."""
    return split if checkpoint == "best" else f"{split}-{checkpoint}"


def digest_references(references: Mapping[int | str, Sequence[str]]) -> tuple[str, str]:
    """Return the SHA-256 of the image ids, and of the ids with their references.

    The order of the images makes no difference; that of an image's references does.
    """
    ids = sorted(references, key=str)
    content = ([str(i) for i in ids], [[str(i), list(references[i])] for i in ids])
    first, second = (hashlib.sha256(json.dumps(part).encode()).hexdigest() for part in content)
    return first, second


def scores_content(scores: Scores) -> dict[str, bytes]:
    """Return ``scores.json`` (of the whole set) and ``per_image.json``, by file name.

    ``per_image.json`` is a list like pycocoevalcap's ``evalImgs``, which keeps the type of the
    image ids, with an image per line; ``statistics`` are those of :class:`Scores`.
    """
    lines = []
    for image_id, values in scores.per_image.items():
        statistics = scores.statistics.get(image_id)
        kept = {"statistics": statistics} if statistics else {}
        lines.append(json.dumps({"image_id": image_id, **values, **kept}, allow_nan=False))
    return {
        PER_IMAGE: ("[\n" + ",\n".join(lines) + "\n]\n").encode(),
        SCORES: json_bytes(scores.corpus),
    }


def write_evaluation(run: Path, record: Record, contents: Mapping[str, bytes]) -> Path:
    """Write an evaluation in place of an earlier one of the same request; return its folder.

    The folder is written beside its place and renamed, under a lock. Until then an earlier
    evaluation stays as it is, and an evaluation of another request always does.

    :param contents: the content of each file but ``evaluation.json``
    :raises PipelineError: a folder is a link, or another kind of file.
    """
    root = run / EVALUATIONS
    with _lock(root):
        _recover(root)
        partial = root / f"{PARTIAL}{record.folder_name}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        last = {RECORD: json_bytes({**record.to_json(), "files": digests})}
        for name, content in {**contents, **last}.items():
            _write_synced(partial / name, content)
        sync_folder(partial)
        return _put(root, partial, record.folder_name)


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    """Hold the lock of a run's evaluations: it is held for the renames, not for the scoring."""
    for place in (root, root / ".lock"):
        if place.is_symlink():
            raise PipelineError(
                "is a link; an evaluation is not written through links",
                where=place,
                hint="replace it by a folder or remove it",
            )
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock", mode=0o666):  # the kernel frees the lock of a killed process
        yield


def _recover(root: Path) -> None:
    """Complete the renames of a writer that was killed; call it under the lock."""
    for replaced in root.glob(f"{REPLACED}*"):
        folder = root / replaced.name.removeprefix(REPLACED)
        if folder.exists():
            _clear(replaced, folder)
        else:
            os.rename(replaced, folder)


def _put(root: Path, partial: Path, name: str) -> Path:
    """Rename ``partial`` to its place; what was there moves or is removed after that."""
    folder, replaced = root / name, root / f"{REPLACED}{name}"
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise PipelineError(
            "is not a folder; the evaluation is not written", where=folder, hint="move it away"
        )
    if folder.is_dir():
        other = _own_name(folder)
        if other != name and not (root / other).exists():
            os.rename(folder, root / other)  # earlier versions wrote every request here
        else:
            os.rename(folder, replaced)
    os.rename(partial, folder)
    sync_folder(root)
    if replaced.exists():
        _clear(replaced, folder)
    return folder


def _own_name(folder: Path) -> str:
    """Return the name that the evaluation in ``folder`` has by its own record, as far as known."""
    try:
        values = json.loads((folder / RECORD).read_bytes())
        known = {f.name: values[f.name] for f in fields(Request) if f.name in values}
        name = Request(**{**known, "metrics": tuple(known["metrics"])}).folder_name
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return folder.name
    begins = name == folder.name or name.startswith(f"{folder.name},")
    return name if begins and os.sep not in name else folder.name


def _clear(replaced: Path, folder: Path) -> None:
    """Remove the files of a replaced evaluation; anything else in it moves to ``folder``."""
    for entry in sorted(replaced.iterdir()):
        if entry.name in FILES and not entry.is_dir():
            entry.unlink()
        elif not (folder / entry.name).exists():
            os.rename(entry, folder / entry.name)
    if not any(replaced.iterdir()):
        replaced.rmdir()


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
